package storetest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/store"
)

func testScanBounds(t *testing.T, s store.Store) {
	all := []string{"a", "b", "b\x00", "ba", "bb", "c", "c\xff", "d", "\xff", "\xff\xff"}
	for _, key := range all {
		set(t, s, key, "of "+key)
	}
	view := s.Snapshot()
	defer view.Close()

	none := []byte(nil)
	bound := func(s string) []byte { return []byte(s) }
	for _, test := range []struct {
		start, end []byte
		want       []string
	}{
		{none, none, all},
		{bound(""), none, all},
		{bound("b"), none, all[1:]},
		{none, bound("b"), all[:1]},
		{bound("b"), bound("c"), all[1:5]},
		{bound("b"), bound("b\x00"), all[1:2]},
		{bound("b\x00"), bound("bb"), all[2:4]},
		{bound("b\x01"), bound("d"), all[3:7]},
		{bound("c\xff"), bound("d"), all[6:7]},
		{bound("\xff"), none, all[8:]},
		{bound("\xff"), bound("\xff\xff"), all[8:9]},
		{bound("\xff\xff\x00"), none, nil},
		{bound("bc"), bound("bz"), nil},
		{bound("b"), bound("b"), nil},
		{bound("c"), bound("b"), nil},
		{none, bound(""), nil},
	} {
		var want []record
		for _, key := range test.want {
			want = append(want, record{key, "of " + key})
		}
		if diff := cmp.Diff(want, scan(t, view, test.start, test.end)); diff != "" {
			t.Errorf("scan of [%q, %q) (-want +got):\n%s", test.start, test.end, diff)
		}
	}
}

func testScanStops(t *testing.T, s store.Store) {
	for i := range 100 {
		set(t, s, fmt.Sprintf("%02d", i), "value")
	}
	now(s, func(view store.Snapshot) {
		for _, limit := range []int{1, 2, 50, 100} {
			values, keys := 0, 0
			err := view.Scan(nil, nil, func(_, _ []byte) bool { values++; return values < limit })
			if err != nil || values != limit {
				t.Errorf("Scan told to stop at %d stopped at %d: %v", limit, values, err)
			}
			err = view.ScanKeys(nil, nil, func([]byte) bool { keys++; return keys < limit })
			if err != nil || keys != limit {
				t.Errorf("ScanKeys told to stop at %d stopped at %d: %v", limit, keys, err)
			}
		}
	})
}

// testNestedReads reads and commits in the middle of a scan, which has to go on as if nothing
// happened.
func testNestedReads(t *testing.T, s store.Store) {
	set(t, s, "a", "1", "b", "2", "c", "3")
	view := s.Snapshot()
	defer view.Close()
	var got []string
	err := view.Scan(nil, nil, func(key, value []byte) bool {
		got = append(got, string(key)+string(value))
		expectGet(t, view, "c", "3")
		err := view.ScanKeys([]byte("b"), nil, func(inner []byte) bool {
			got = append(got, string(inner))
			return false
		})
		if err != nil {
			t.Errorf("ScanKeys: %v", err)
		}
		set(t, s, string(key)+"new", "4")
		return true
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	if diff := cmp.Diff([]string{"a1", "b", "b2", "b", "c3", "b"}, got); diff != "" {
		t.Errorf("what the scans saw (-want +got):\n%s", diff)
	}
}
