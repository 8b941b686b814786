package members

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAReportComesWithTheTime(t *testing.T) {
	want := &Report{Version: "1.2", Ready: true, Reason: "none", StoreBytes: 1 << 40, FreeBytes: 7, Replica: "00aa",
		Problems: []string{"no-link", "clock-off"}}
	payload := encodeAnswer(noon, want)
	if diff := cmp.Diff(want, decodeReport(payload)); diff != "" {
		t.Error(diff)
	}
	if at, ok := decodeClock(payload); !ok || !at.Equal(noon) {
		t.Errorf("the time is %v, %v", at, ok)
	}
	long := decodeReport(encodeAnswer(noon, &Report{Reason: strings.Repeat("é", maxReportText),
		Problems: slices.Repeat([]string{strings.Repeat("x", 100)}, 100)}))
	if long == nil || long.Reason != strings.Repeat("é", maxReportText/2) || len(long.Problems) != maxReportProblems {
		t.Errorf("a long reason became %+v", long)
	}
	for _, other := range [][]byte{nil, encodeAnswer(noon, nil), payload[:len(payload)-1]} {
		if got := decodeReport(other); got != nil {
			t.Errorf("%x is taken for %+v", other, got)
		}
	}
}

func TestAReportIsForgottenWithTheMember(t *testing.T) {
	table := newTable(nil)
	m, name := sample(0)
	table.alive(name, testAddr, m, nil, noon)
	table.reported(name, &Report{Version: "1"})
	table.alive(name, testAddr, m, nil, noon) // it tells something about itself
	if got := table.list()[0].Report; got == nil || got.Version != "1" {
		t.Errorf("the report is %+v", got)
	}
	table.gone(name, noon)
	table.reported(name, &Report{Version: "1"})
	if got := table.list()[0].Report; got != nil {
		t.Errorf("one that is gone reports %+v", got)
	}
}
