package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"
)

func TestEachLimitStandsInTheReadmeAndInItsError(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("a key, field or element of a set %d KiB, a value or element of a list %d MiB, "+
		"a transaction %s changes and %d MiB.",
		MaxKey>>10, MaxValue>>20, humanize.Comma(MaxOps), MaxCost>>20)
	if !strings.Contains(string(readme), want) {
		t.Errorf("the README does not say %q", want)
	}
	p, err := Open(t.Context(), Config{Memory: true, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for what, test := range map[string]struct {
		limit int
		write func(tx *Tx) error
	}{
		"key": {MaxKey, func(tx *Tx) error { return tx.Register(strings.Repeat("k", MaxKey+1)).Set(nil) }},
		"field": {MaxKey, func(tx *Tx) error {
			return tx.Map("m").Register(strings.Repeat("k",
				MaxKey+1)).Set(nil)
		}},
		"element": {MaxKey, func(tx *Tx) error {
			_, err := tx.Set("s").Add(strings.Repeat("k",
				MaxKey+1))
			return err
		}},
		"element of a list": {MaxValue, func(tx *Tx) error {
			return tx.List("l").Insert(0, make([]byte, MaxValue+1))
		}},
		"value": {MaxValue, func(tx *Tx) error { return tx.Register("k").Set(make([]byte, MaxValue+1)) }},
		"changes": {MaxOps, func(tx *Tx) error {
			for i := range MaxOps + 1 {
				if _, err := tx.Set("s").Add(strconv.Itoa(i)); err != nil {
					return err
				}
			}
			return nil
		}},
		"bytes": {MaxCost, func(tx *Tx) error {
			for i := range MaxCost/MaxValue + 1 {
				if err := tx.Register(strconv.Itoa(i)).Set(make([]byte, MaxValue)); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		err := p.Update(t.Context(), test.write)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("(limit %d)", test.limit)) {
			t.Errorf("too much of %s is told as %v, want limit %d", what, err, test.limit)
		}
	}
}

// Programs that embed a peer as the README shows it listen nowhere.
func TestThePeerOfTheReadmeOpensNoPort(t *testing.T) {
	for _, file := range []string{filepath.Join("..", "README.md"), "doc.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), `peer.Open(ctx, peer.Config{Dir: "data", Offline: true})`) {
			t.Errorf("%s opens a peer in another way", file)
		}
	}
	before := sockets(t)
	p, err := Open(t.Context(), Config{Dir: t.TempDir(), Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if after := sockets(t); after > before {
		t.Errorf("there are %d sockets more", after-before)
	}
}

// sockets returns how many this process has open.
func sockets(t *testing.T) (n int) {
	const dir = "/proc/self/fd"
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Skip("this system does not tell which files are open")
	}
	for _, f := range files {
		if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
