package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSIGHUPTakesOverWhatCanChangeAndNamesWhatCannot(t *testing.T) {
	file := configFile(t, "log-level: warn", "name: oslo")
	key := filepath.Join(t.TempDir(), "cluster.key")
	mustPeerd(t, "init", "--dir", filepath.Dir(key))
	peer := func(args ...string) *process {
		args = append(args, "--dir", t.TempDir(), "--cluster-key", key, "--fast-gossip")
		return start(t, args...).serving(t)
	}
	other, p := peer(), peer("--config", file)
	seen := 0 // of the log
	reload := func(want string) (logged string) {
		t.Helper()
		seen = len(p.stderr.String())
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.stderr.waitForAfter(t, seen, want, p.ended)
		return p.stderr.String()[seen:]
	}
	expect := func(logged string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !strings.Contains(logged, line) {
				t.Errorf("no %q in the log:\n%s", line, logged)
			}
		}
	}

	write(t, file, "log-level: debug\nname: lima\njoin: ["+other.gossip+"]\ndurability: always\n")
	logged := reload(`msg="settings reloaded" changed=2`)
	expect(logged,
		`level=INFO msg="setting changed" setting=log-level was=warn is=debug set_by=`+file+":1\n",
		`level=INFO msg="setting changed" setting=join was=[] is=[`+other.gossip+"] set_by="+file+":3\n",
		`level=WARN msg="setting changes at a restart only" setting=name running=oslo wanted=lima `+
			"set_by="+file+":2\n",
		`setting=durability running=interval wanted=always set_by=`+file+":4\n")
	other.ask(t, "INCR visits")
	mustPeerd(t, "wait", "--http", p.http, "--http", other.http)
	p.stderr.waitFor(t, "level=DEBUG", p.ended)

	write(t, file, "log-level: error\nnam: lima\n")
	logged = reload("settings, passwords and certificates are left as they were")
	expect(logged, `level=ERROR msg="settings, passwords and certificates are left as they were" error="`+file+
		`:2: unknown key \"nam\": the nearest is \"name\" (peerd config lists all)"`)

	write(t, file, "name: oslo\njoin: ["+other.gossip+"]\n")
	logged = reload(`msg="settings reloaded"`)
	expect(logged, "setting=log-level was=debug is=info set_by=default")
	if strings.Contains(logged, "restart") {
		t.Errorf("settings that are as they run are said to need a restart:\n%s", logged)
	}
	if err := p.terminate(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
