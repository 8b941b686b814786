package scenario

import (
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

// Each type of package crdt is to be measured.
func TestEachTypeIsWrittenByAKind(t *testing.T) {
	missing := map[crdt.Type]bool{crdt.TypeString: true, crdt.TypeFlag: true, crdt.TypeSet: true, crdt.TypeSortedSet: true,
		crdt.TypeBitmap: true, crdt.TypeHyperLogLog: true, crdt.TypeMap: true, crdt.TypeList: true, crdt.TypeStream: true}
	timed := false
	for _, k := range kinds {
		_, err := crdt.NewState().Update(1, time.Now(), func(f crdt.Fields) error {
			if err := k.fill(f, 3); err != nil {
				return err
			}
			if err := k.write(f, 3); err != nil {
				return err
			}
			for name, types := range f.All() {
				delete(missing, types.First())
				_, expires := f.Expiry(name).Get()
				timed = timed || expires
			}
			return f.Err()
		})
		if err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
	}
	if len(missing) > 0 || !timed {
		t.Errorf("nothing measures %v, and something that expires: %v", missing, timed)
	}
}
