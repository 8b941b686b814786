package badger

import (
	"errors"
	"syscall"
	"testing"

	"github.com/peerd/peerd/store"
)

// TestAStoreForWhichTheSystemIsShortOfSomethingIsNotDamaged has Badger's texts, as `prlimit
// --nofile=12 peerd salvage` and its like bring them about. A process that is short of files cannot
// test more.
func TestAStoreForWhichTheSystemIsShortOfSomethingIsNotDamaged(t *testing.T) {
	for text, want := range map[string]error{
		`Opening file: "/d/000002.sst" err: open /d/000002.sst: too many open files`:                          syscall.EMFILE,
		`while opening memtables err: Unable to open mem dir.. Path=/d. Error=open /d: too many open files`:   syscall.EMFILE,
		`During db.vlog.open err: open /d/000001.vlog: too many open files in system`:                         syscall.ENFILE,
		"Opening file: \"/d/2.sst\" err: cannot allocate memory\nwhile mmapping /d/2.sst with size: 2097152":  syscall.ENOMEM,
		"During db.vlog.open err: Unable to replay value log: \"/d/000001.vlog\": unexpected end of the file": store.ErrCorrupt,
	} {
		got := openError(errors.New(text))
		if !errors.Is(got, want) || want != store.ErrCorrupt && errors.Is(got, store.ErrCorrupt) {
			t.Errorf("of %q it says %v", text, got)
		}
	}
}
