package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// effective runs "peerd config" and returns the value and the source of each setting.
func effective(t *testing.T, args ...string) (values, from map[string]string) {
	t.Helper()
	values, from = map[string]string{}, map[string]string{}
	line := regexp.MustCompile(`^([a-z0-9-]+): (.*?) +# (.*)$`)
	for text := range strings.Lines(mustPeerd(t, append([]string{"config"}, args...)...)) {
		found := line.FindStringSubmatch(strings.TrimSuffix(text, "\n"))
		if found == nil {
			t.Fatalf("peerd config prints %q", text)
		}
		values[found[1]], from[found[1]] = found[2], found[3]
	}
	return values, from
}

// configFile writes a file of settings and returns its path.
func configFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "peerd.yaml")
	write(t, path, strings.Join(lines, "\n")+"\n")
	return path
}

func TestTheFlagGoesBeforeTheEnvironmentThatBeforeTheFileThatBeforeTheDefault(t *testing.T) {
	file := configFile(t, "# mine", "log-level: error", "join: [b:1, b:2]")
	for _, test := range []struct {
		name                             string
		file, env, flag                  bool
		level, levelFrom, join, joinFrom string
	}{
		{"nothing", false, false, false, "info", "default", "[]", "default"},
		{"file", true, false, false, "error", file + ":2", `["b:1", "b:2"]`, file + ":3"},
		{"environment", false, true, false, "warn", "PEERD_LOG_LEVEL", `["c:1", "c:2"]`, "PEERD_JOIN"},
		{"environment and file", true, true, false, "warn", "PEERD_LOG_LEVEL", `["c:1", "c:2"]`,
			"PEERD_JOIN"},
		{"flag", false, false, true, "debug", "--log-level", `["d:1", "d:2", "d:3"]`, "--join"},
		{"flag and file", true, false, true, "debug", "--log-level", `["d:1", "d:2", "d:3"]`, "--join"},
		{"all", true, true, true, "debug", "--log-level", `["d:1", "d:2", "d:3"]`, "--join"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var args []string
			if test.file {
				args = append(args, "--config", file)
			}
			if test.env {
				t.Setenv("PEERD_LOG_LEVEL", "warn")
				t.Setenv("PEERD_JOIN", "c:1, c:2")
			}
			if test.flag {
				args = append(args, "--log-level", "debug", "--join", "d:1,d:2", "--join", "d:3")
			}
			values, from := effective(t, args...)
			want := []string{test.level, test.levelFrom, test.join, test.joinFrom}
			got := []string{values["log-level"], from["log-level"], values["join"], from["join"]}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEveryFlagOfRunIsAKeyAndAVariable(t *testing.T) {
	run, table := runCommand().Flags(), new(options).table()
	run.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && table.Lookup(f.Name) == nil {
			t.Errorf("--%s is not in the table of settings", f.Name)
		}
	})
	other := map[string]string{
		"dir": "elsewhere", "cluster-key": "my.key", "join": `["a:1"]`, "name": "oslo", "spaces": `["orders"]`,
		"gossip": `"127.0.0.1:1"`, "p2p": `"127.0.0.1:2"`, "advertise": "10.0.0.5",
		"resp": `"127.0.0.1:3"`, "http": `"127.0.0.1:4"`, "durability": "always",
		"push-delay": "500ms", "delta-log-size": "1GiB", "delta-log-age": "36h", "cache-size": "64MiB",
		"max-skew": "2s", "ready-wait": "3s", "min-free": "512MiB",
		"max-clients": "7", "forget-after": "240h", "slow-log": "1s", "pprof-socket": "my.socket",
		"log-level": "warn", "log-format": "json", "password-file": "secret.txt",
		"tls-cert": "c.pem", "tls-key": "k.pem", "tls-ca": "ca.pem",
		"allow": `["12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"]`,
	}
	var lines []string
	c := &config{flags: table}
	c.public(func(f *pflag.Flag) {
		if other[f.Name] == "" {
			t.Errorf("give this test a value for %s", f.Name)
		}
		lines = append(lines, f.Name+": "+other[f.Name])
	})
	values, _ := effective(t, "--config", configFile(t, lines...))
	if diff := cmp.Diff(other, values); diff != "" {
		t.Errorf("from the file: %s", diff)
	}
	for name, text := range other {
		t.Setenv(variable(name), strings.Trim(text, `[]"`))
	}
	values, from := effective(t)
	if diff := cmp.Diff(other, values); diff != "" {
		t.Errorf("from the environment: %s", diff)
	}
	for name := range other {
		if from[name] != variable(name) {
			t.Errorf("%s is said to be from %s, not %s", name, from[name], variable(name))
		}
	}
}

func TestTheEnvironmentCanNameTheFile(t *testing.T) {
	t.Setenv("PEERD_CONFIG", configFile(t, "name: lima"))
	if values, _ := effective(t); values["name"] != "lima" {
		t.Errorf("PEERD_CONFIG names a file with the name lima, config says %s", values["name"])
	}
}

func TestAMistakeInASettingIsToldWithItsPlaceAndTheNearestKey(t *testing.T) {
	for _, test := range []struct {
		name, file, want string
	}{
		{"an unknown key", "name: x\ngosip: 127.0.0.1:1",
			`FILE:2: unknown key "gosip": the nearest is "gossip" (peerd config lists all)`},
		{"another spelling", "log_level: info",
			`FILE:1: unknown key "log_level": the nearest is "log-level" (peerd config lists all)`},
		{"a flag for tests", "fast-gossip: true",
			`FILE:1: unknown key "fast-gossip": the nearest is "gossip" (peerd config lists all)`},
		{"a bad word", "log-level: loud",
			`FILE:1: log-level "loud": must be debug, info, warn or error`},
		{"a bad size", "\n\ndelta-log-size: big", `FILE:3: delta-log-size "big": must be a size, as 256MiB`},
		{"a size too small", "delta-log-size: 10kB",
			`FILE:1: delta-log-size "10kB": must be at least 1MiB`},
		{"a bad duration", "delta-log-age: 7d",
			`FILE:1: delta-log-age "7d": must be a duration, as 168h, 90m or 500ms`},
		{"a bad address", "# x\nresp: 6379", `FILE:2: resp "6379": must be ip:port, as 127.0.0.1:6379, or off`},
		{"a certificate without its key", "tls-cert: c.pem",
			`FILE:1: tls-cert "c.pem": needs the certificate's key: name it with --tls-key`},
		{"a key without its certificate", "tls-key: k.pem",
			`FILE:1: tls-key "k.pem": needs its certificate: name it with --tls-cert`},
		{"an authority without a certificate", "resp: 0.0.0.0:6379\ntls-ca: a.pem",
			`FILE:2: tls-ca "a.pem": needs a certificate of this host: name --tls-cert and --tls-key`},
		{"a bad item of a list", "join:\n  - a:1\n  - b:x", `FILE:1: join "b:x": must be host:port or host`},
		{"no value", "name:", "FILE:1: name: has no value: leave the key out for its default"},
		{"a list for one value", "name: [a]", "FILE:1: name: must be one value on its line"},
		{"a mapping for a list", "join: {a: 1}", "FILE:1: join: must be one value on its line"},
		{"two mistakes", "nam: x\nlog-level: loud",
			`FILE:1: unknown key "nam": the nearest is "name" (peerd config lists all); ` +
				`FILE:2: log-level "loud": must be debug, info, warn or error`},
		{"a key twice", "name: x\nname: y", `FILE:2: no YAML: mapping key "name" already defined at [1:1]`},
		{"no YAML", "name: x\njoin: [a:1", `FILE:2: no YAML: sequence end token ']' not found`},
		{"no mapping", "- name", `FILE:1: must be lines of "key: value", as peerd config prints them`},
		{"two documents", "name: x\n---\nname: y",
			`FILE:3: must be lines of "key: value", as peerd config prints them`},
		{"a huge file", strings.Repeat("# much\n", maxConfig/7+1),
			"no settings in FILE (it has more than 1MiB): name a YAML file with --config"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := configFile(t, test.file)
			want := "peerd: " + strings.ReplaceAll(test.want, "FILE", file) + "\n"
			for _, command := range []string{"config", "run", "init"} {
				status, _, stderr := peerd(t, command, "--config", file)
				if status != exitUsage || stderr != want {
					t.Errorf("%s ended with %d:\n%swant 2:\n%s", command, status, stderr, want)
				}
			}
		})
	}
}

func TestAMistakeInTheEnvironmentIsToldWithItsVariable(t *testing.T) {
	t.Setenv("PEERD_DURABILITY", "sometimes")
	t.Setenv("PEERD_HTTP", "0.0.0.0:80")
	const wrong = `peerd: PEERD_DURABILITY "sometimes": must be always, interval or none` + "\n"
	if status, _, stderr := peerd(t, "run"); status != exitUsage || stderr != wrong {
		t.Errorf("status %d: %s", status, stderr)
	}
	t.Setenv("PEERD_DURABILITY", "")
	status, _, stderr := peerd(t, "run")
	if status != exitUsage || !strings.HasPrefix(stderr, `peerd: PEERD_HTTP "0.0.0.0:80": refused`) {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestAMisspeltVariableIsWarnedOf(t *testing.T) {
	t.Setenv("PEERD_LOGLEVEL", "warn")
	t.Setenv("PEERD_SERVICE_HOST", "10.0.0.5") // as Kubernetes sets for a service named peerd
	status, _, stderr := peerd(t, "config")
	const want = "peerd: warning: PEERD_LOGLEVEL is no setting: the nearest is PEERD_LOG_LEVEL\n"
	if status != exitOK || stderr != want {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestAFileThatIsNotThereIsAMistake(t *testing.T) {
	status, _, stderr := peerd(t, "run", "--config", "/nowhere/peerd.yaml")
	const want = "peerd: no settings in /nowhere/peerd.yaml (no such file or directory): " +
		"name a YAML file with --config\n"
	if status != exitUsage || stderr != want {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestStatusAndInitTakeSettingsFromTheFileToo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	file := configFile(t, "dir: "+dir, "http: 127.0.0.1:1")
	mustPeerd(t, "init", "--config", file)
	if _, err := os.Stat(filepath.Join(dir, "host.key")); err != nil {
		t.Error(err)
	}
	_, _, stderr := peerd(t, "status", "--config", file)
	if !strings.Contains(stderr, "no answer from 127.0.0.1:1: ") {
		t.Errorf("status: %s", stderr)
	}
}
