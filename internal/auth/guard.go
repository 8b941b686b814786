package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/internal/secret"
)

// Limits of a password file.
const (
	// MinPassword is the length in bytes of the shortest password. Guessing is slowed down for
	// each address, and an attacker may have many.
	MinPassword = 16
	// MaxPassword is the length in bytes of the longest one.
	MaxPassword = 512
	// MaxPasswords is how many a file may hold: one, and a few while it is replaced.
	MaxPasswords = 4
)

// ErrWrong is returned for what is no password of this server.
var ErrWrong = errors.New("wrong password")

// WaitError is returned to an address that has failed too often. The password was not looked at.
type WaitError struct{ Wait time.Duration }

// Error implements error.
func (e WaitError) Error() string {
	return fmt.Sprintf("too many wrong passwords from this address: try again in %v",
		e.Wait.Round(100*time.Millisecond)+100*time.Millisecond)
}

// Guard knows the passwords. Its zero value is of no use: LoadPasswords makes one.
type Guard struct {
	path   string
	key    [sha256.Size]byte // of this process: what is in memory is of no use elsewhere
	sums   atomic.Pointer[[][]byte]
	delays delays
}

// LoadPasswords returns a guard with the passwords of a file that only its owner can read. The
// error says what to do, and never shows a password.
func LoadPasswords(path string) (*Guard, error) {
	g := &Guard{path: path, delays: delays{now: time.Now, failed: map[netip.Prefix]failure{}}}
	_, _ = rand.Read(g.key[:]) // never fails: it ends the program instead
	use, err := g.Reload()
	if err != nil {
		return nil, err
	}
	use()
	return g, nil
}

// Reload reads the file again. The passwords are as before until use is called, and after an error.
func (g *Guard) Reload() (use func(), err error) {
	passwords, err := readPasswords(g.path)
	if err != nil {
		return nil, err
	}
	sums := make([][]byte, len(passwords))
	for i, password := range passwords {
		sums[i] = g.sum([]byte(password))
	}
	return func() { g.sums.Store(&sums) }, nil
}

// LoadPassword returns the first password of a file, for a client to send. Errors as of
// LoadPasswords.
func LoadPassword(path string) (string, error) {
	passwords, err := readPasswords(path)
	if err != nil {
		return "", err
	}
	return passwords[0], nil
}

func readPasswords(path string) ([]string, error) {
	text, err := secret.ReadPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("password file: %w", err)
	}
	passwords, err := parsePasswords(string(text))
	if err != nil {
		return nil, fmt.Errorf("password file %s: %w", path, err)
	}
	return passwords, nil
}

// parsePasswords returns the lines that are not empty. A password must fit a header of HTTP and a
// command line without quotes.
func parsePasswords(text string) (passwords []string, err error) {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		switch {
		case line == "":
			continue
		case len(line) < MinPassword || len(line) > MaxPassword:
			return nil, fmt.Errorf("line %d has %d characters, a password has %d to %d: make one "+
				"with openssl rand -base64 24", i+1, len(line), MinPassword, MaxPassword)
		case strings.ContainsFunc(line, func(r rune) bool { return r < '!' || r > '~' }):
			return nil, fmt.Errorf("line %d has blanks or characters beyond ASCII: make a password "+
				"with openssl rand -base64 24", i+1)
		}
		passwords = append(passwords, line)
	}
	switch {
	case len(passwords) == 0:
		return nil, errors.New("it is empty: make a password with openssl rand -base64 24")
	case len(passwords) > MaxPasswords:
		return nil, fmt.Errorf("%d passwords, at most %d: take out those that are not used any more",
			len(passwords), MaxPasswords)
	}
	return passwords, nil
}

// Check returns nil if the password is one of the file's, else ErrWrong; or a WaitError without
// looking at it, if the address has failed too often. from is the client's address, or zero.
func (g *Guard) Check(from netip.Addr, password []byte) error {
	if wait := g.delays.wait(from); wait > 0 {
		return WaitError{wait}
	}
	if !g.knows(password) {
		g.delays.fail(from)
		return ErrWrong
	}
	g.delays.forgive(from)
	return nil
}

// knows takes the same time whether and where the password is found.
func (g *Guard) knows(password []byte) bool {
	if len(password) > MaxPassword {
		return false
	}
	sum, found := g.sum(password), false
	for _, s := range *g.sums.Load() {
		found = hmac.Equal(s, sum) || found
	}
	return found
}

func (g *Guard) sum(password []byte) []byte {
	mac := hmac.New(sha256.New, g.key[:])
	mac.Write(password)
	return mac.Sum(nil)
}
