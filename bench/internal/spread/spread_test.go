package spread

import (
	"testing"
	"time"
)

func TestWhatIsNotSeenByAllIsMissing(t *testing.T) {
	v := &visible{members: 3, seen: map[int]map[int]sight{}}
	at := time.Unix(1, 0)
	v.see(0, 1, sight{at, 0})
	v.see(1, 1, sight{at, 0})
	v.see(1, 1, sight{at, 0})
	end := at.Add(time.Minute)
	if _, _, missing := v.last(1, end); missing != 1 || v.all(1) {
		t.Errorf("%d are missing", missing)
	}
	v.see(2, 1, sight{at.Add(time.Second), 1})
	last, hops, missing := v.last(1, end)
	if missing != 0 || !v.all(1) || last != at.Add(time.Second) || hops != 2 {
		t.Errorf("%d are missing, and the last saw it at %v after %d hops", missing, last, hops)
	}
}

func TestTheWayOfAMessageIsKnownOnlyIfAllKnowWhereTheyHadItFrom(t *testing.T) {
	v := &visible{members: 4, seen: map[int]map[int]sight{}}
	v.see(1, 1, sight{from: 0})
	v.see(2, 1, sight{from: -1})
	v.see(3, 1, sight{from: 1})
	if _, hops, _ := v.last(1, time.Now()); hops != 0 {
		t.Errorf("it is said to be %d hops", hops)
	}
}
