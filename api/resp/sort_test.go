package resp

import (
	"fmt"
	"math"
	"testing"
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
	for _, text := range []string{"x", "1 ", "1e400", "-1e400", "1e-400", "nan", "1_0", "1.2.3", "e5"} {
		if got, ok := parseDouble([]byte(text)); ok {
			t.Errorf("%q is %v, want no number", text, got)
		}
	}
}

func TestSortRefusesWhatItWouldNotDo(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	p.expect("SADD s 1 2", ":2")
	p.expect("SORT s STORE l", "-ERR SORT with STORE makes a list, which peerd has not yet")
	p.expect("SORT s BY nosort", "*2\n  \"1\"\n  \"2\"") // by name
	for n, want := range map[int]string{MaxSort: "<nil>", MaxSort + 1: "ERR 1048577 elements exceed the limit of 1048576 (MaxSort)"} {
		if got := fmt.Sprint(sortableCount(n)); got != want {
			t.Errorf("%d elements: %s, want %s", n, got, want)
		}
	}
}
