package badger

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	dgraph "github.com/dgraph-io/badger/v4"

	"github.com/peerd/peerd/store"
)

// maxText is how many bytes of a message of Badger's are kept: some carry a kilobyte of a value.
const maxText = 200

// clip returns the first line of a message, at most maxText bytes of it.
func clip(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	if len(text) > maxText {
		text = text[:maxText] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// brief returns err with a clipped text, or nil. What it wrapped is lost, which for Badger's own
// errors is little: most of them wrap nothing.
func brief(err error) error {
	if err == nil {
		return nil
	}
	return errors.New("badger: " + clip(err.Error()))
}

// readError translates an error of reading. Badger reads from mapped files, so whatever fails is
// the content.
func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dgraph.ErrDBClosed), errors.Is(err, dgraph.ErrDiscardedTxn):
		return store.ErrClosed
	}
	return corrupt("%v", brief(err))
}

// stageError translates an error of filling a transaction. Nothing was applied.
func stageError(err error) error {
	switch {
	case errors.Is(err, dgraph.ErrTxnTooBig):
		return store.ErrBatchTooLarge
	case errors.Is(err, store.ErrCorrupt):
		return err
	}
	return brief(err)
}

// openError translates an error of opening a database whose directory is ours.
func openError(err error) error {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "Cannot acquire directory lock"):
		return store.ErrLocked
	case saysOneOf(err, syscall.ENOSPC, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", store.ErrNoSpace, brief(err))
	}
	for _, why := range refusals {
		if says(err, why) {
			return refused{brief(err), why}
		}
	}
	return corrupt("%v", brief(err))
}

// refusals are the errors by which the system does not let this process use files. That is no
// damage: whoever took one for that would give up a store that is whole.
var refusals = []syscall.Errno{
	syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.ENOMEM,
	syscall.ENFILE, syscall.EMFILE, // in this order: the text of one begins that of the other
}

// isRefusal reports whether an error is one of those.
func isRefusal(err error) bool {
	return errors.Is(err, fs.ErrPermission) || saysOneOf(err, refusals...)
}

// refused is such an error with a clipped text.
type refused struct {
	error
	why syscall.Errno
}

func (r refused) Unwrap() error { return r.why }

// says reports whether an error is one of the system's, by the text, which is all that Badger keeps
// of most.
func says(err error, no syscall.Errno) bool { return strings.Contains(err.Error(), no.Error()) }

func saysOneOf(err error, errnos ...syscall.Errno) bool {
	return slices.ContainsFunc(errnos, func(no syscall.Errno) bool { return says(err, no) })
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{store.ErrCorrupt}, args...)...)
}

// caught turns a panic into an error. Badger panics where damaged bytes send it out of bounds, and,
// with faultsPanic, where a mapped table is shorter than it was or its disk does not answer, which
// would else end the process with SIGBUS. It may only be deferred around calls into Badger: a panic
// of our own must not look like damage.
//
//	defer caught(&err, faultsPanic())
func caught(err *error, faultsPanicked bool) {
	debug.SetPanicOnFault(faultsPanicked)
	if r := recover(); r != nil {
		*err = corrupt("badger panicked: %s", clip(fmt.Sprint(r)))
	}
}

// faultsPanic has faults of this goroutine panic, and returns whether they did before.
func faultsPanic() bool { return debug.SetPanicOnFault(true) }
