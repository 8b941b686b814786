package segment

import (
	"os"
	"syscall"
)

// datasync makes a file's contents and size durable, and leaves out its times, which would cost a
// write more.
func datasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
