package peer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// cleanMark is the note that a store was closed cleanly, in this directory of this machine. Only a store
// that finds it may go on issuing dots under its old replica id: one that was killed may have lost a
// tail that others have, and one that was restored or copied shares its past with another. The mark
// is durable at the end of a clean close and durably gone before the next write.
//
// The mark names a second file, the witness, by inode and time of its last change, which no program can
// set: a mark that was copied, or put back from a backup, does not fit its witness. What remains is
// an image of the whole disk; that shows when the hashes of the deltas fork. It also names the state of the
// store, for one whose files alone were put back.
type cleanMark struct {
	dir   string
	token string // the store's state at the clean close; empty without a valid mark
	there bool   // the file may exist
}

const (
	markFile    = "clean"
	witnessFile = "witness"
)

// openMark looks for a mark in dir.
func openMark(dir string) (*cleanMark, error) {
	m := &cleanMark{dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, markFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, nil
	case err != nil:
		return nil, fmt.Errorf("clean mark: %w", err)
	}
	m.there = true
	where, token, ok := strings.Cut(string(text), "state ")
	if want, err := m.where(); ok && err == nil && want != "" && want == where {
		m.token = strings.TrimSpace(token)
	}
	return m, nil
}

// state returns the store's state at its clean close; empty if there was none here.
func (m *cleanMark) state() string {
	if m == nil {
		return ""
	}
	return m.token
}

// where returns which directory and witness a mark made now names; empty where there is no telling.
func (m *cleanMark) where() (string, error) {
	dir, err := filepath.Abs(m.dir)
	if err != nil {
		return "", err
	}
	identity, err := fileIdentity(dir)
	if err != nil || identity == "" {
		return "", err
	}
	witness, err := fileChange(filepath.Join(dir, witnessFile))
	if err != nil || witness == "" {
		return "", err
	}
	machine, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		name, err := os.Hostname()
		if err != nil {
			return "", err
		}
		machine = []byte(name)
	}
	return fmt.Sprintf("peerd-clean-1\nmachine %s\ndirectory %s %s\nwitness %s\n",
		strings.TrimSpace(string(machine)), dir, identity, witness), nil
}

// remove takes the mark away, durably, before the first write.
func (m *cleanMark) remove() error {
	if m == nil || !m.there {
		return nil
	}
	err := os.Remove(filepath.Join(m.dir, markFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clean mark: %w", err)
	}
	if err := syncPath(m.dir); err != nil {
		return fmt.Errorf("clean mark: %w", err)
	}
	m.there = false
	return nil
}

// write puts the mark, durably, after a clean close of a store in the given state.
func (m *cleanMark) write(token string) error {
	if m == nil || m.there {
		return nil
	}
	witness := filepath.Join(m.dir, witnessFile)
	if err := os.Remove(witness); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeSynced(witness, "The file \"clean\" beside this one is valid only with it.\n"); err != nil {
		return err
	}
	where, err := m.where()
	if err != nil || where == "" {
		return err
	}
	if err := writeSynced(filepath.Join(m.dir, markFile), where+"state "+token+"\n"); err != nil {
		return err
	}
	m.there = true
	return syncPath(m.dir)
}

func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
