package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// maxFile bounds what is read of a file, in bytes. A larger one is no secret of ours.
const maxFile = 4 << 10

// ReadPrivate returns the content of a file of at most 4 KiB that only its owner can read. The error
// says what to do.
func ReadPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkPrivate(path, f); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes: not a key", path, maxFile)
	}
	return text, nil
}

// checkPrivate looks at the open file, not at the path, which may change meanwhile.
func checkPrivate(path string, f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s can be read or changed by others: chmod 600 %s", path, path)
	}
	return nil
}

// writeNew stores a file that was not there before, readable by its owner alone. It is written
// aside and synced first, so that a crash at any point leaves no file at path or a whole one.
func writeNew(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := linkNew(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// linkNew gives a file a second name, which must be free: unlike a rename, a link never replaces.
func linkNew(old, path string) error {
	if err := os.Link(old, path); err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// A file system without hard links (FAT, some network and FUSE ones).
	return copyNew(old, path)
}

// copyNew copies a file to a free name. After a crash the copy may be torn: loading it says so.
func copyNew(old, path string) error {
	content, err := os.ReadFile(old)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// syncDir makes a new name in dir survive a power failure. Windows cannot, and need not.
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
