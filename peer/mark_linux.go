package peer

import (
	"fmt"
	"os"
	"syscall"
)

// fileIdentity returns device and inode of a file.
func fileIdentity(path string) (string, error) {
	st, err := stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

// fileChange returns the identity of a file and when the kernel last saw it change.
func fileChange(path string) (string, error) {
	st, err := stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%d %d.%09d", st.Dev, st.Ino, st.Ctim.Sec, st.Ctim.Nsec), nil
}

func stat(path string) (*syscall.Stat_t, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("%s: no inode", path)
	}
	return st, nil
}
