package auth

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	first  = "correct-horse-battery"
	second = "staple-and-more-of-it"
)

var someone = netip.MustParseAddr("192.0.2.1")

// passwordFile stores a file that only its owner can read.
func passwordFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, text string) *Guard {
	t.Helper()
	g, err := LoadPasswords(passwordFile(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestEveryPasswordOfTheFileIsAccepted(t *testing.T) {
	g := load(t, first+"\r\n\n"+second+"\n")
	for password, want := range map[string]error{
		first: nil, second: nil, "": ErrWrong, first + "x": ErrWrong, first[1:]: ErrWrong,
		strings.Repeat("x", MaxPassword+1): ErrWrong,
	} {
		if err := g.Check(netip.Addr{}, []byte(password)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", password, err, want)
		}
	}
}

func TestAPasswordIsReplacedWithoutAPause(t *testing.T) {
	path := passwordFile(t, first)
	g, err := LoadPasswords(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		text         string
		old, renewed bool
	}{{first + "\n" + second, true, true}, {second, false, true}, {"short", false, true}} {
		if err := os.WriteFile(path, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		use, err := g.Reload()
		if (err != nil) != (step.text == "short") {
			t.Errorf("%q: %v", step.text, err)
		}
		if err == nil {
			use()
		}
		if g.knows([]byte(first)) != step.old || g.knows([]byte(second)) != step.renewed {
			t.Errorf("with %q in the file: first %v, second %v", step.text, step.old, step.renewed)
		}
	}
}

func TestAPasswordFileThatIsNoneIsRefusedWithoutShowingIt(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "it is empty: make a password with openssl rand -base64 24",
		"shortsecret":                "line 1 has 11 characters, a password has 16 to 512",
		first + "\nwith some blanks": "line 2 has blanks",
		"pässwörd-of-some-length":    "line 1 has blanks or characters beyond ASCII",
		strings.Repeat(first+"\n", MaxPasswords+1): "5 passwords, at most 4",
	} {
		_, err := LoadPasswords(passwordFile(t, text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "shortsecret") || strings.Contains(err.Error(), first)) {
			t.Errorf("the error shows a password: %v", err)
		}
	}
	path := passwordFile(t, first)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPasswords(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("a file that others can read: %v", err)
	}
}

func TestWhoFailsOftenMustWaitTwiceAsLongEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := load(t, first)
		try := func(from netip.Addr, password string) time.Duration {
			var wait WaitError
			if errors.As(g.Check(from, []byte(password)), &wait) {
				return wait.Wait
			}
			return 0
		}
		for range freeFailures + 1 {
			if wait := try(someone, "guess"); wait != 0 {
				t.Fatalf("must wait %v too early", wait)
			}
		}
		for want := firstDelay; want < 2*maxDelay; want *= 2 {
			want := min(want, maxDelay)
			if wait := try(someone, first); wait != want {
				t.Fatalf("must wait %v, want %v, even with the right password", wait, want)
			}
			<-time.After(want)
			if wait := try(someone, "guess"); wait != 0 {
				t.Fatalf("must wait %v more", wait)
			}
		}
		if err := g.Check(netip.MustParseAddr("192.0.2.2"), []byte(first)); err != nil {
			t.Errorf("another address must wait as well: %v", err)
		}
		<-time.After(maxDelay)
		if err := g.Check(someone, []byte(first)); err != nil {
			t.Errorf("the right password after the wait: %v", err)
		}
		if wait := try(someone, "guess"); wait != 0 || try(someone, first) != 0 {
			t.Error("failures before a success still count")
		}
	})
}

func TestFailuresAreForgottenAndTheirTableIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := load(t, first)
		for range freeFailures + 1 {
			_ = g.Check(someone, nil)
		}
		<-time.After(forgetAfter + time.Second)
		if err := g.Check(someone, nil); !errors.Is(err, ErrWrong) {
			t.Error(err)
		}
		if f := g.delays.failed[network(someone)]; f.count != 1 {
			t.Errorf("%d failures count after a long time, want 1", f.count)
		}
		addr := netip.MustParseAddr("10.0.0.1")
		for range 2 * maxAddresses {
			_ = g.Check(addr, nil)
			<-time.After(time.Millisecond)
			addr = addr.Next()
		}
		if n := len(g.delays.failed); n != maxAddresses {
			t.Errorf("%d addresses in the table, want %d", n, maxAddresses)
		}
		if _, ok := g.delays.failed[network(addr.Prev())]; !ok {
			t.Error("the latest failure was forgotten first")
		}
	})
}

func TestAnIPv6NetworkCountsAsOneAddress(t *testing.T) {
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:2")
	if network(a) != network(b) || network(a) == network(netip.MustParseAddr("2001:db8:0:1::1")) {
		t.Error("the first 64 bits of an IPv6 address must count, and no others")
	}
	if network(netip.MustParseAddr("::ffff:192.0.2.1")) != network(someone) {
		t.Error("an IPv4 address in IPv6 form is another one")
	}
}
