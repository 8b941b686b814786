package members

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/peerd/peerd/internal/wire"
)

const (
	knownVersion = 2
	// maxKnownFile bounds what is read, in bytes: MaxKnown members with 512 bytes of metadata
	// each, were each byte of it escaped.
	maxKnownFile = 16 << 20
)

// knownFile is the file of members seen so far: JSON, so that it can be read and mended by hand.
type knownFile struct {
	Version uint64        `json:"version"`
	Members []knownMember `json:"members"`
	// Join is the hosts that were to be joined, as long as no member is known: see Members.Unmet.
	Join []string `json:"join,omitempty"`
}

type knownMember struct {
	ID    string    `json:"id"`
	Addr  string    `json:"gossip_addr"`
	Label string    `json:"label,omitempty"`
	Key   []byte    `json:"public_key"`
	P2P   []string  `json:"p2p_addrs"`
	Seen  time.Time `json:"last_seen"`
}

// readKnown reads the file. No file is an empty one. The error wraps wire.ErrFormat if another
// version wrote it.
func readKnown(path string) (file knownFile, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return file, err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxKnownFile)).Decode(&file); err != nil {
		return knownFile{}, fmt.Errorf("%s: %w", path, err)
	}
	if file.Version == 0 {
		return knownFile{}, fmt.Errorf("%s: it names no version", path)
	}
	if err := wire.CheckFormat(file.Version, knownVersion, "move it away, and name a host to join"); err != nil {
		return knownFile{}, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// loadKnown returns the members that the file holds, none of them alive, and how many entries
// were no valid members. Never more than MaxKnown. The error is readKnown's.
func loadKnown(
	path string, idOf func(ed25519.PublicKey) (string, error), now time.Time,
) (known []record, invalid int, err error) {
	file, err := readKnown(path)
	if err != nil {
		return nil, 0, err
	}
	for _, k := range file.Members {
		if len(known) >= MaxKnown || !k.valid(idOf) {
			invalid++
			continue
		}
		seen := k.Seen
		if seen.After(now) {
			seen = now // a clock was wrong; it must not be last to be forgotten for ever
		}
		known = append(known, record{seen: seen, Member: Member{
			ID: k.ID, Addr: k.Addr, Label: cutLabel(k.Label), PublicKey: k.Key, P2P: k.P2P, Since: seen,
		}})
	}
	return known, invalid, nil
}

func (k *knownMember) valid(idOf func(ed25519.PublicKey) (string, error)) bool {
	if len(k.Key) != ed25519.PublicKeySize || len(k.ID) > MaxID || len(k.P2P) > MaxP2P {
		return false
	}
	for _, addr := range k.P2P {
		if len(addr) > MaxP2PBytes {
			return false
		}
	}
	_, err := netip.ParseAddrPort(k.Addr)
	id, idErr := idOf(k.Key)
	return err == nil && idErr == nil && id == k.ID
}

// KnownAddrs returns the gossip addresses in a file of known members, most recently seen first;
// none if it cannot be read.
func KnownAddrs(path string, idOf func(ed25519.PublicKey) (string, error)) (out []string) {
	known, _, err := loadKnown(path, idOf, time.Now())
	if err != nil {
		return nil
	}
	for _, r := range known {
		out = append(out, r.Addr)
	}
	return out
}

// Remember adds a member to a file of known members, which nobody has open: who opens it looks for
// that one as for all others in it. After an error the file is as it was.
func Remember(path string, idOf func(ed25519.PublicKey) (string, error), m Member) error {
	now := time.Now()
	known, _, err := loadKnown(path, idOf, now)
	if err != nil {
		return err
	}
	known = slices.DeleteFunc(known, func(r record) bool { return r.ID == m.ID })
	return saveKnown(path, append([]record{{Member: m, seen: now}}, known...), nil)
}

// saveKnown replaces the file at once and durably: after a crash there is the old or the new one.
// Join is kept if there are no records.
func saveKnown(path string, records []record, join []string) error {
	file := knownFile{Version: knownVersion, Members: []knownMember{}}
	if len(records) == 0 {
		file.Join = join
	}
	for _, r := range records[:min(len(records), MaxKnown)] {
		file.Members = append(file.Members, knownMember{
			ID: r.ID, Addr: r.Addr, Label: r.Label, Key: r.PublicKey, P2P: r.P2P, Seen: r.seen.UTC(),
		})
	}
	text, err := json.MarshalIndent(file, "", "\t")
	if err != nil {
		return err
	}
	aside := path + ".tmp"
	if err := writeSynced(aside, append(text, '\n')); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes a rename in dir survive a power failure. Windows cannot, and need not.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
