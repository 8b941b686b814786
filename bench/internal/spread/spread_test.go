package spread

import (
	"testing"
	"time"
)

func TestWhatIsNotSeenByAllIsMissing(t *testing.T) {
	v := &visible{members: 3, seen: map[int]map[int]time.Time{}}
	v.see(0, 1)
	v.see(1, 1)
	v.see(1, 1)
	if _, missing := v.last(1); missing != 1 || v.all(1) || v.count() != 1 {
		t.Errorf("%d are missing, %d were counted", missing, v.count())
	}
	v.see(2, 1)
	if _, missing := v.last(1); missing != 0 || !v.all(1) {
		t.Errorf("%d are missing", missing)
	}
}
