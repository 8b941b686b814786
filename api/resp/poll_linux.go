package resp

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poll waits for sockets, and for others who wake it. It asks the system without waiting first:
// on a busy server there is always something. Only if there is nothing its goroutine is parked,
// by having Go's own poller wait for ours; so no thread is held while nothing happens, and none
// is woken twice.
type poll struct {
	file    *os.File // of the epoll descriptor
	raw     syscall.RawConn
	epoll   int
	alarm   int // an eventfd
	events  []unix.EpollEvent
	found   int
	failed  error
	limited bool // file has a deadline
	look    func(fd uintptr) bool
	sleeper sleeper // nil: Go's poller is
}

// pollEvents is how many sockets one round looks at.
const pollEvents = 1024

func newPoll(sleeper sleeper) (*poll, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll descriptor: %w", err)
	}
	alarm, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	p := &poll{epoll: epoll, alarm: alarm, sleeper: sleeper, events: make([]unix.EpollEvent, pollEvents)}
	if err = unix.SetNonblock(epoll, true); err == nil { // so that Go's poller takes it
		p.file = os.NewFile(uintptr(epoll), "epoll")
		if p.raw, err = p.file.SyscallConn(); err == nil {
			err = p.file.SetReadDeadline(time.Time{}) // which fails unless Go's poller has taken it
		}
		if err == nil {
			err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, alarm,
				&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(alarm)})
		}
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("prepare an epoll descriptor: %w", err)
	}
	p.look = p.tryWait
	return p, nil
}

// add begins to tell of a socket: when bytes have come, or its end, and when there is room for
// more to be sent; each time anew.
func (p *poll) add(fd int) error {
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd),
	})
}

func (p *poll) remove(fd int) error { return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil) }

// wait returns what has happened, at once or once something has; and nothing after some time,
// unless that is negative.
func (p *poll) wait(until time.Duration) ([]unix.EpollEvent, error) {
	if p.tryWait(0) || until == 0 {
		return p.events[:p.found], p.failed
	}
	if p.sleeper != nil {
		p.sleeper.sleep(until)
		p.tryWait(0)
		return p.events[:p.found], p.failed
	}
	deadline := time.Time{}
	if until > 0 {
		deadline = time.Now().Add(until)
	}
	if until > 0 || p.limited {
		p.limited = until > 0
		if err := p.file.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if err := p.raw.Read(p.look); err != nil && !os.IsTimeout(err) {
		return nil, err
	}
	return p.events[:p.found], p.failed
}

// tryWait takes what has happened, and reports whether there was anything.
func (p *poll) tryWait(uintptr) bool {
	for {
		n, err := quickly(unix.SYS_EPOLL_PWAIT, p.epoll, unsafe.Pointer(&p.events[0]), len(p.events))
		if err == unix.EINTR {
			continue
		}
		p.found, p.failed = n, err
		return n > 0 || err != nil
	}
}

// quickly makes a system call that does not wait, and does not tell the scheduler of it: that
// would hand the loop's processor to another goroutine if the machine is busy, and the loop would
// have to get it back.
func quickly(call uintptr, fd int, at unsafe.Pointer, n int) (int, error) {
	done, _, failed := syscall.RawSyscall6(call, uintptr(fd), uintptr(at), uintptr(n), 0, 0, 0)
	if failed != 0 {
		return 0, failed
	}
	return int(done), nil
}

// readNow and writeNow are read and write of descriptors that do not block.
func readNow(fd int, p []byte) (int, error) {
	return quickly(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p))
}

func writeNow(fd int, p []byte) (int, error) {
	return quickly(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(p)), len(p))
}

// wake has wait return. Any goroutine may call it.
func (p *poll) wake() {
	_, _ = unix.Write(p.alarm, one) // it fails only after 2^64 times
	if p.sleeper != nil {
		p.sleeper.wake()
	}
}

var one = binary.NativeEndian.AppendUint64(nil, 1)

func (p *poll) close() {
	_ = unix.Close(p.alarm)
	if p.file != nil {
		_ = p.file.Close()
		return
	}
	_ = unix.Close(p.epoll)
}
