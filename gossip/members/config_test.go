package members

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestEveryProblemOfAConfigurationIsReportedAtOnce(t *testing.T) {
	c := Config{
		P2P:       slices.Repeat([]string{""}, MaxP2P+1),
		Versions:  Versions{Min: 2, Max: 1},
		Bind:      "localhost",
		Advertise: "0.0.0.0:1",
		Join:      []string{"a:b:c", ":1"},
		Preset:    7,
	}
	_, err := Open(c)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{
		"id: must", "private key:", "versions:", "17 addresses", `p2p ""`, "bind", "advertise", "key:",
		`join "a:b:c"`, `join ":1"`, "preset",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("says nothing about %q:\n%v", part, err)
		}
	}
	c = config(0)
	c.PrivateKey = privateKey(1)
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("another's id: %v", err)
	}
	c = config(0)
	c.Bind, c.Advertise = "[fe80::1%eth0]:1", "[fe80::1%eth0]:1" // memberlist loses the zone
	err = c.Validate()
	if text := fmt.Sprint(err); !strings.Contains(text, "bind") || !strings.Contains(text, "advertise") {
		t.Errorf("addresses of one link: %s", text)
	}
	c = config(0)
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigurationIsCopiedAndNeverPrinted(t *testing.T) {
	c := config(0)
	c.Join = []string{"a:1"}
	m := open(t, c)
	c.Join[0], c.P2P[0], c.PrivateKey[0] = "b:1", "x", 0
	if m.cfg.Join[0] != "a:1" || m.cfg.P2P[0] == "x" || !m.cfg.PrivateKey.Equal(privateKey(0)) {
		t.Error("shares memory with its caller")
	}
	text := fmt.Sprintf("%v %+v %#v %d", c, &c, c, []Config{c})
	if strings.Contains(text, "107 101 121") || strings.Contains(text, "0x6b") {
		t.Errorf("printed as %s", text)
	}
}

func TestHostsToJoinAreSplit(t *testing.T) {
	for in, want := range map[string]string{
		"host":           "host 7946",
		"host:1":         "host 1",
		"10.0.0.1":       "10.0.0.1 7946",
		"10.0.0.1:2":     "10.0.0.1 2",
		"::1":            "::1 7946",
		"[::1]":          "::1 7946",
		"[::1]:3":        "::1 3",
		"db.example.org": "db.example.org 7946",
		"":               "error",
		":1":             "error",
		"host:":          "error",
		"host:0":         "error",
		"10.0.0.0/8":     "error",
		"[fe80::1%eth0]": "error",
		"fe80::1":        "error",
		"[fd00::5]":      "fd00::5 7946",
		"host:65536":     "error",
		"a:b:c":          "error",
	} {
		host, port, err := SplitHost(in)
		got := fmt.Sprintf("%s %d", host, port)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
}

func TestAHostToJoinThatCannotBeSaysWhatToDo(t *testing.T) {
	if err := CheckHost("[fe80::1%eth0]:7946"); err == nil || !strings.Contains(err.Error(), "fd00::5, or a name") {
		t.Errorf("an address of one link: %v", err)
	}
}
