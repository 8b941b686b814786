package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mistake is a command line that fails, and how.
type mistake struct {
	name   string
	args   []string
	status int
	line   string // the error, with DIR for the directory of the test
}

func TestAMistakeInTheCommandLineIsToldInOneLine(t *testing.T) {
	const loopbackOnly = "refused beyond loopback as long as everybody there would be let in: ask for " +
		"a password with --password-file, or for certificates with --tls-cert, --tls-key and --tls-ca; " +
		"or listen on 127.0.0.1:"
	checkMistakes(t, t.TempDir(), []mistake{
		{"an unknown command", []string{"rum"}, 2,
			`peerd has no command "rum": is peerd run meant? (see peerd --help)`},
		{"an unknown flag", []string{"run", "--nope"}, 2,
			"peerd run has no flag --nope (see peerd run --help)"},
		{"a mistyped flag", []string{"status", "--jsn"}, 2,
			"peerd status has no flag --jsn: is --json meant? (see peerd status --help)"},
		{"a value like a flag", []string{"set", "depth", "-5"}, 2,
			"peerd set has no flag -5: before an argument that begins with a hyphen write -- (see peerd set --help)"},
		{"a flag like no other", []string{"status", "--whatever"}, 2,
			"peerd status has no flag --whatever (see peerd status --help)"},
		{"a command of another system", []string{"delete", "x"}, 2,
			`peerd has no command "delete": is peerd del meant? (see peerd --help)`},
		{"a mistyped command below another", []string{"key", "rotat"}, 2,
			`peerd key has no command "rotat": is peerd key rotate meant? (see peerd key --help)`},
		{"no file", []string{"backup"}, 2, "peerd backup takes FILE|-, and got nothing (see peerd backup --help)"},
		{"no member", []string{"member", "remove", ""}, 2,
			`"" names no member: give its name, its gossip address or its peer id`},
		{"dots for a member", []string{"member", "add", ".."}, 2,
			`".." names no member: give its name, its gossip address or its peer id`},
		{"an argument", []string{"status", "x"}, 2,
			"peerd status takes no argument, and got x (see peerd status --help)"},
		{"a flag without value", []string{"init", "--dir"}, 2,
			"--dir needs a value (see peerd init --help)"},
		{"an address that is none", []string{"run", "--gossip", "here"}, 2,
			`--gossip "here": must be ip:port or name:port`},
		{"a peer id that is none", []string{"run", "--allow", "oslo"}, 2,
			`--allow "oslo": must be a peer id, as peerd init prints it`},
		{"no directory", []string{"run", "--dir", ""}, 2, `--dir "": name a directory for the data`},
		{"a durability", []string{"run", "--durability", "some"}, 2,
			`--durability "some": must be always, interval or none`},
		{"a log level", []string{"run", "--log-level", "loud"}, 2,
			`--log-level "loud": must be debug, info, warn or error`},
		{"a log format", []string{"run", "--log-format", "xml"}, 2,
			`--log-format "xml": must be text or json`},
		{"join without a key", []string{"run", "--dir", "DIR/new", "--join", "127.0.0.1:1"}, 2,
			"no cluster key: a host joins with the cluster's key in hand: copy cluster.key from a " +
				"peer of the cluster to DIR/new/cluster.key, or name it with --cluster-key (Config.ClusterKey), " +
				"or run there peerd invite and here what that prints"},
		{"RESP on all interfaces", []string{"run", "--resp", ":6379"}, 2,
			`--resp ":6379": ` + loopbackOnly + "6379"},
		{"RESP beyond loopback", []string{"run", "--resp", "192.0.2.1:7000"}, 2,
			`--resp "192.0.2.1:7000": ` + loopbackOnly + "7000"},
		{"HTTP beyond loopback", []string{"run", "--http", "[::]:80"}, 2,
			`--http "[::]:80": ` + loopbackOnly + "80"},
		{"beyond loopback with a certificate of its own alone", []string{"run", "--resp", ":6379",
			"--tls-cert", "c", "--tls-key", "k"}, 2, `--resp ":6379": ` + loopbackOnly + "6379"},
		{"a password file that is not there", []string{"run", "--dir", "DIR/p", "--resp", ":6379",
			"--password-file", "DIR/none"}, 2, "password file: there is no DIR/none"},
		{"an authority without a certificate", []string{"run", "--dir", "DIR/p", "--tls-ca", "DIR/none"},
			2, `--tls-ca "DIR/none": needs a certificate of this host: name --tls-cert and --tls-key`},
		{"RESP on a name", []string{"run", "--resp", "example.com:1"}, 2,
			`--resp "example.com:1": must be ip:port, as 127.0.0.1:6379, or off`},
		{"two mistakes", []string{"run", "--http", "x", "--advertise", "::"}, 2,
			`--http "x": must be ip:port, as 127.0.0.1:6379, or off; ` +
				`--advertise "::": must be the IP or name at which others reach this host, without a port`},
		{"a list of nothing", []string{"run", "--dir", "DIR/new", "--join", ","}, 2,
			`--join ",": lists nothing: leave it empty, or name what it is to list`},
		{"an advertised port", []string{"run", "--advertise", "10.0.0.5:7946"}, 2,
			`--advertise "10.0.0.5:7946": must be the IP or name at which others reach this host, ` +
				"without a port"},
		{"help on no command", []string{"help", "rum"}, 2,
			`peerd has no command "rum": is peerd run meant? (see peerd --help)`},
		{"completion for no shell", []string{"completion"}, 2,
			"completion for which shell? bash, zsh, fish or powershell"},
		{"completion for another shell", []string{"completion", "tcsh"}, 2,
			`peerd completion has no command "tcsh" (see peerd completion --help)`},
		{"manual pages to nowhere", []string{"man", "DIR/none"}, 2,
			"DIR/none is no directory: name one for the manual pages"},
		{"a timeout", []string{"wait", "--timeout", "long"}, 2,
			`--timeout "long": must be a duration, as 168h, 90m or 500ms`},
		{"waiting for nobody", []string{"wait"}, 2,
			"wait for whom? Name the peers: --http A --http B"},
		{"waiting for no address", []string{"wait", "--http", "a b"}, 2,
			`--http "a b": must be ip:port, as 127.0.0.1:7948`},
	})
}

func TestAFailureIsToldInOneLine(t *testing.T) {
	dir := t.TempDir()
	there := run(t, filepath.Join(dir, "there"))
	write(t, filepath.Join(dir, "wrong.key"), "hello\n")
	write(t, filepath.Join(dir, "open.key"), "hello\n")
	if err := os.Chmod(filepath.Join(dir, "open.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	start := func(args ...string) []string {
		return append(append([]string{"run", "--dir", "DIR/other"}, anywhere...), args...)
	}
	const noKey = "there is no cluster key in DIR/no.key: copy it from a host of the cluster, " +
		"or leave --cluster-key out to begin a cluster"
	const silence = ": nothing listens there: is peerd running there with this --http?"
	checkMistakes(t, dir, []mistake{
		{"a directory in use", start("--dir", there.dir), 1,
			"data directory DIR/there: open store in DIR/there/store: store is in use by another " +
				"process, or open in this one already: stop it, or choose another directory with --dir"},
		{"RESP port in use", start("--resp", there.redis), 1, "cannot listen on " + there.redis +
			" with --resp: it is in use: stop what listens there, or choose another address"},
		{"HTTP port in use", start("--http", there.http), 1, "cannot listen on " + there.http +
			" with --http: it is in use: stop what listens there, or choose another address"},
		{"gossip port in use", start("--gossip", there.gossip), 1, "membership: gossip address " +
			there.gossip + " is in use: stop the process that listens there, or choose another port"},
		{"no key file", start("--cluster-key", "DIR/no.key"), 2, noKey},
		{"no key file to join with", start("--cluster-key", "DIR/no.key", "--join", "127.0.0.1:1"), 2,
			strings.Replace(noKey, "leave --cluster-key out to begin a cluster", "run there peerd invite and here what that prints", 1)},
		{"no key file to init with",
			[]string{"init", "--dir", "DIR/x", "--cluster-key", "DIR/no.key"}, 2, noKey},
		{"no key file to restore with",
			[]string{"restore", "DIR/wrong.key", "--dir", "DIR/x", "--cluster-key", "DIR/no.key"}, 2,
			strings.Replace(noKey, "begin a cluster", "name it at the first start", 1)},
		{"a wrong key file", start("--cluster-key", "DIR/wrong.key"), 1,
			"load cluster key: DIR/wrong.key: not a cluster key: copy the file from another host " +
				"of the cluster"},
		{"a key that others can read", start("--cluster-key", "DIR/open.key"), 1,
			"load cluster key: DIR/open.key can be read or changed by others: " +
				"chmod 600 DIR/open.key"},
		{"status of nobody", []string{"status", "--http", "127.0.0.1:1"}, 1,
			"no answer from 127.0.0.1:1" + silence},
		{"status of something else", []string{"status", "--http", there.redis}, 1, ""},
		{"waiting for somebody who is not there",
			[]string{"wait", "--http", there.http, "--http", "127.0.0.1:1", "--timeout", "1ms"}, 1,
			"no agreement after 1ms: no answer from 127.0.0.1:1" + silence},
	})
}

// checkMistakes runs each and compares. An empty line stands for any.
func checkMistakes(t *testing.T, dir string, mistakes []mistake) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			args := make([]string, len(m.args))
			for i, arg := range m.args {
				args[i] = strings.ReplaceAll(arg, "DIR", dir)
			}
			status, stdout, stderr := peerd(t, args...)
			want := "peerd: " + strings.ReplaceAll(m.line, "DIR", dir) + "\n"
			if status != m.status || stdout != "" || m.line != "" && stderr != want {
				t.Errorf("status %d, standard output %q, error\n%swant status %d and\n%s",
					status, stdout, stderr, m.status, want)
			}
			if strings.Count(stderr, "\n") != 1 {
				t.Errorf("the error is not one line: %s", stderr)
			}
		})
	}
}
