package resp

import (
	"fmt"
	"math"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

func TestNumbersAreReadAsStrtodReadsThem(t *testing.T) {
	for text, want := range map[string]float64{
		"": 0, " 7": 7, "\t\n-2.5": -2.5, "+3": 3, "0x1p4": 16, "1e3": 1000, "inf": math.Inf(1), "-Infinity": math.Inf(-1),
		".5": 0.5, "5.": 5, "1\x00x": 1, "-0": 0, "0e-999": 0,
	} {
		if got, ok := parseDouble([]byte(text)); !ok || got != want {
			t.Errorf("%q is %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"x", "1 ", " ", "\t\x00", "1e400", "-1e400", "1e-400", "nan", "1_0", "1.2.3", "e5"} {
		if got, ok := parseDouble([]byte(text)); ok {
			t.Errorf("%q is %v, want no number", text, got)
		}
	}
}

func TestSortRefusesWhatItWouldNotDo(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.expect("SADD s 1 2", ":2")
	p.expect("SORT_RO s STORE l", "-ERR syntax error")
	p.expect("SORT s BY nosort", "*2\n  \"1\"\n  \"2\"") // by name
	for _, test := range []struct {
		n      int
		access access
		want   string
	}{
		{MaxSort, accessScan, "<nil>"},
		{MaxSort + 1, accessScan, "ERR 1048577 elements exceed the limit of 1048576 (MaxSort)"},
		{embedded.MaxOps, accessWrite, "<nil>"},
		{embedded.MaxOps + 1, accessWrite, "ERR 131073 elements exceed the limit of 131072 with STORE (MaxOps)"},
	} {
		if got := fmt.Sprint(sortableCount(test.n, test.access)); got != test.want {
			t.Errorf("%d elements: %s, want %s", test.n, got, test.want)
		}
	}
}

// TestWhatACommandGathersIsBoundedInBytes, and what one reads that writes, or is within a transaction, as such a
// transaction keeps it.
func TestWhatACommandGathersIsBoundedInBytes(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	n, element := beyondMaxReply(p, "RPUSH", "list")
	beyondMaxReply(p, "SADD", "set")
	p.expectOf("+OK", "SET", "long1", strings.Repeat("v", 1<<20))
	p.expectOf(":70", append([]string{"RPUSH", "ones"}, strings.Fields(strings.Repeat("1 ", 70))...)...)
	for _, command := range []string{
		"LREM list 0 absent", "LREM list -1 absent", "LINSERT list BEFORE absent x", "SORT list ALPHA LIMIT 0 1",
		"SORT_RO list BY nosort LIMIT 0 1", "SORT list BY nosort LIMIT 0 1 STORE made",
		"SORT ones BY nosort GET long* STORE made", "SORT ones BY long* ALPHA LIMIT 0 1",
		"SUNIONSTORE made set", "ZUNION 1 set", "ZUNIONSTORE made 1 set",
	} {
		p.expect(command, "-"+string(errMuchHeld))
	}
	p.expect("EXISTS made", ":0")
	p.expect("LPOS list absent", "$-1") // on a view that keeps nothing
	p.expect("MULTI", "+OK")
	p.expect("LPOS list absent", "+QUEUED")
	p.expect("EXEC", "*1\n  -"+string(errMuchHeld))
	p.expectOf(":1", "LREM", "list", "1", "000000"+element) // which is the first
	p.expectOf(":1", "LREM", "list", "-1", fmt.Sprintf("%06d", n-1)+element)
}
