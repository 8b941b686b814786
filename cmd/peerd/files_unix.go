//go:build unix

package main

import "syscall"

// openFiles returns how many files and connections the process may have open. Go's runtime has raised
// that to what the system allows.
func openFiles() (limit uint64, known bool) {
	var files syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	return uint64(files.Cur), err == nil
}
