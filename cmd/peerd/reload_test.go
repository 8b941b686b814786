package main

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/peer"
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

// TestAReloadKeepsTheHostThatInvited, which a new host reaches only after that. The file names others to join.
func TestAReloadKeepsTheHostThatInvited(t *testing.T) {
	host, err := peer.Open(t.Context(), peer.Config{
		Dir: t.TempDir(), Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0", FastGossip: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	inv, err := host.Invite()
	if err != nil {
		t.Fatal(err)
	}
	g := &given{flags: new(options).table(), file: configFile(t, "join: [127.0.0.1:1]")}
	args := append([]string{"--dir", t.TempDir(), "--fast-gossip"}, anywhere...)
	if err := g.flags.Parse(append(args, "--resp", "off", "--http", "off")); err != nil {
		t.Fatal(err)
	}
	c, err := g.load()
	if err == nil {
		err = c.join(t.Context(), io.Discard, inv.Token)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.peer.Cut, c.peer.Logger = &peer.Cut{}, slog.New(slog.DiscardHandler)
	c.peer.Cut.Block(inv.Addr)
	d, err := openDaemon(t.Context(), c.settings)
	if err != nil {
		t.Fatal(err)
	}
	defer d.peer.Close()

	write(t, g.file, "join: [127.0.0.1:2]\n")
	(&reloader{running: c, daemon: d, level: new(slog.LevelVar)}).reload()
	if diff := cmp.Diff([]string{inv.Addr, "127.0.0.1:2"}, c.peer.Join); diff != "" {
		t.Errorf("hosts to join after the reload (-want +got):\n%s", diff)
	}
	c.peer.Cut.Block()
	tick, limit := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for met := false; !met; {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the host that invited is not found any more")
		}
		s, err := d.peer.Status()
		if err != nil {
			t.Fatal(err)
		}
		met = len(s.Members) == 1
	}
}
