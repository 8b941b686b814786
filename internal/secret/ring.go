package secret

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MaxKeys is how many keys a host accepts at once: one in use, and a few while it is replaced.
const MaxKeys = 4

var (
	// ErrTooManyKeys is returned by Ring.Hold for a key beyond MaxKeys.
	ErrTooManyKeys = errors.New("this host accepts as many cluster keys as it can: retire the old ones")
	// ErrUnknownKey is returned for an id that is none of the ring's.
	ErrUnknownKey = errors.New("this host does not hold that cluster key")
)

// Ring is the cluster keys that a host accepts. The first is in use: what this host begins, it
// begins with that one. At most one is next: to be used once all hosts accept it. A Ring does not
// change; methods that say so return another.
//
// It is stored as a line for each key, in that order, and "next" behind the next one:
//
//	peerd-cluster-key-2:…
//	peerd-cluster-key-2:… next
//	peerd-former-key-2:…
//
// The last kind of line has the id of a key that was retired: an older copy of the file is known
// by it.
type Ring struct {
	redacted
	keys   []Key
	next   Key      // zero if there is none
	former []string // ids of keys that were retired, the last one last
}

// nextMark stands behind the next key's line.
const nextMark = " next"

const (
	formerPrefix = "peerd-former-key-" + version + ":"
	// maxFormer is how many ids of retired keys are remembered.
	maxFormer = 16
)

// NewRing returns a ring of one key.
func NewRing(k Key) Ring { return Ring{keys: []Key{k}} }

// Load reads a ring: what Create or Save stored. The error wraps fs.ErrNotExist if there is no
// file.
func Load(path string) (Ring, error) {
	text, err := ReadPrivate(path)
	if err != nil {
		return Ring{}, fmt.Errorf("load cluster key: %w", err)
	}
	r, err := parseRing(string(text))
	if err != nil {
		return Ring{}, fmt.Errorf("load cluster key: %s: %w", path, err)
	}
	return r, nil
}

// Save stores the ring in place of the file that Load read, behind links if there are any. After an
// error the file is as it was or as it was to be.
func (r Ring) Save(path string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := replace(path, []byte(r.text())); err != nil {
		var at *fs.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		return fmt.Errorf("the file of the cluster key, %s, cannot be replaced: %w", path, err)
	}
	return nil
}

func (r Ring) text() string {
	var b strings.Builder
	for _, k := range r.keys {
		line := k.line()
		if k == r.next {
			line = strings.TrimSuffix(line, "\n") + nextMark + "\n"
		}
		b.WriteString(line)
	}
	for _, id := range r.former {
		b.WriteString(formerPrefix + id + "\n")
	}
	return b.String()
}

// Create stores the ring in a new file, as the function Create does a key.
func (r Ring) Create(path string) error {
	if err := writeNew(path, []byte(r.text())); err != nil {
		return fmt.Errorf("create cluster key: %w", err)
	}
	return nil
}

// Expose returns the ring as it is stored, with its keys: as Key.Expose.
func (r Ring) Expose() []byte { return []byte(r.text()) }

// RingFromBytes returns the ring that Expose exposed.
func RingFromBytes(text []byte) (Ring, error) { return parseRing(string(text)) }

// parseRing reads what text wrote. Its errors never hold a part of the text.
func parseRing(text string) (r Ring, err error) {
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		line = strings.TrimSpace(line)
		if id, ok := strings.CutPrefix(line, formerPrefix); ok && len(r.keys) > 0 && len(r.former) < maxFormer {
			if raw, err := hex.DecodeString(id); err != nil || len(raw) != clusterIDSize {
				return Ring{}, errors.New("the cluster key is damaged: copy the file from another host again")
			}
			r.former = append(r.former, id)
			continue
		}
		line, isNext := strings.CutSuffix(line, nextMark)
		k, err := parse(line)
		if err != nil {
			return Ring{}, err
		}
		if r.holds(k) || isNext && (len(r.keys) == 0 || !r.next.IsZero()) || len(r.keys) == MaxKeys {
			return Ring{}, errors.New("the lines of the cluster key do not belong together: copy the " +
				"file from another host again")
		}
		if isNext {
			r.next = k
		}
		r.keys = append(r.keys, k)
	}
	return r, nil
}

// IsZero reports whether r is the zero Ring, without keys.
func (r Ring) IsZero() bool { return len(r.keys) == 0 }

// InUse returns the key that is in use.
func (r Ring) InUse() Key { return r.keys[0] }

// Next returns the key that is to be used, and false if there is none.
func (r Ring) Next() (Key, bool) { return r.next, !r.next.IsZero() }

// Keys returns all keys, the one in use first.
func (r Ring) Keys() []Key { return slices.Clone(r.keys) }

// Get returns the key with a ClusterID.
func (r Ring) Get(id string) (Key, bool) {
	i := slices.IndexFunc(r.keys, func(k Key) bool { return k.ClusterID() == id })
	if i < 0 {
		return Key{}, false
	}
	return r.keys[i], true
}

func (r Ring) holds(k Key) bool { return slices.Contains(r.keys, k) }

// Equal reports whether two rings hold the same keys, in the same order, for the same use.
func (r Ring) Equal(other Ring) bool {
	return slices.Equal(r.keys, other.keys) && r.next == other.next
}

// Hold returns a ring that accepts k as well, as the next one. A ring that uses it is returned as
// it is. The error is ErrTooManyKeys.
func (r Ring) Hold(k Key) (Ring, error) {
	switch {
	case r.holds(k):
		if k != r.InUse() {
			r.next = k // of two that come in different orders all say the last
		}
		return r, nil
	case len(r.keys) == MaxKeys:
		return r, ErrTooManyKeys
	}
	return Ring{keys: append(r.Keys(), k), next: k, former: r.former}, nil
}

// Use returns a ring in which the key with that id is in use, and the others are accepted. The
// error is ErrUnknownKey.
func (r Ring) Use(id string) (Ring, error) {
	k, ok := r.Get(id)
	if !ok {
		return r, ErrUnknownKey
	}
	others := slices.DeleteFunc(r.Keys(), func(other Key) bool { return other == k })
	used := Ring{keys: append([]Key{k}, others...), next: r.next, former: r.former}
	if used.next == k {
		used.next = Key{}
	}
	return used, nil
}

// Retire returns a ring of the key in use alone. It remembers the ids of the others.
func (r Ring) Retire() Ring {
	retired := NewRing(r.InUse())
	retired.former = slices.Clone(r.former)
	for _, k := range r.keys[1:] {
		retired.former = append(retired.former, k.ClusterID())
	}
	retired.former = retired.former[max(0, len(retired.former)-maxFormer):]
	return retired
}

// Newer returns which of two rings of one cluster came later: other, if it has a key that r does
// not have and never had, else r. It returns false if they are of different clusters, as far as
// can be told: other has only keys that r knows nothing of.
func (r Ring) Newer(other Ring) (Ring, bool) {
	unknown := 0
	shared := false
	for _, k := range other.keys {
		had := r.holds(k)
		shared = shared || had
		if !had && !slices.Contains(r.former, k.ClusterID()) {
			unknown++
		}
	}
	switch {
	case unknown == 0:
		return r, true
	case shared:
		return other, true
	}
	return r, false
}

// replace stores a file in place of another, readable by its owner alone. It is written aside and
// synced first.
func replace(path string, content []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}
