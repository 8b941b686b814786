package members

import (
	"fmt"
	"net"
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
		"host:65536":     "error",
		"a:b:c":          "error",
	} {
		host, port, err := splitHost(in)
		got := fmt.Sprintf("%s %d", host, port)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
}

func TestAdvertisedAddressIsTheMostReachableOne(t *testing.T) {
	addrs := func(text ...string) (out []net.Addr) {
		for _, cidr := range text {
			ip, network, err := net.ParseCIDR(cidr)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		return out
	}
	for _, c := range []struct {
		host  []net.Addr
		only4 bool
		want  string
	}{
		{nil, true, "127.0.0.1"},
		{addrs("127.0.0.1/8", "fe80::1/64"), false, "127.0.0.1"},
		{addrs("127.0.0.1/8", "203.0.113.5/24", "10.1.2.3/8", "192.168.0.1/16"), true, "10.1.2.3"},
		{addrs("127.0.0.1/8", "203.0.113.5/24"), true, "203.0.113.5"},
		{addrs("::1/128", "2001:db8::1/64"), false, "2001:db8::1"},
		{addrs("::1/128", "2001:db8::1/64"), true, "127.0.0.1"},
	} {
		if got := reachable(c.host, c.only4).String(); got != c.want {
			t.Errorf("of %v: %s, want %s", c.host, got, c.want)
		}
	}
}
