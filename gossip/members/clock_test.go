package members

import (
	"encoding/hex"
	"testing"
	"time"
)

func TestAClocksOffsetIsMeasuredToHalfOfTheRoundTrip(t *testing.T) {
	for _, test := range []struct{ offset, there, back time.Duration }{
		{0, time.Millisecond, time.Millisecond},
		{time.Hour, 0, 0},
		{-3 * time.Second, 40 * time.Millisecond, 0},
		{700 * time.Millisecond, 0, 90 * time.Millisecond},
	} {
		sent := noon
		theirs := sent.Add(test.there).Add(test.offset)
		received := sent.Add(test.there + test.back)
		got, bound := offsetOf(theirs, received, received.Sub(sent))
		if wrong := (got - test.offset).Abs(); wrong > bound || bound <= 0 {
			t.Errorf("%+v: measured %v ± %v", test, got, bound)
		}
	}
}

func encodeClock(now time.Time) []byte { return encodeAnswer(now, nil) }

func TestAnAnswerWithoutATimeIsNoMeasurement(t *testing.T) {
	if got, ok := decodeClock(encodeClock(noon)); !ok || !got.Equal(noon) {
		t.Errorf("%v became %v, %v", noon, got, ok)
	}
	for _, payload := range [][]byte{nil, {0x90}, {0xc0}, {0x91}, {0x91, 0xcf}, []byte("time"),
		{0x91, 0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}} {
		if got, ok := decodeClock(payload); ok {
			t.Errorf("%x is taken for %v", payload, got)
		}
	}
	newer := append([]byte{0x92}, encodeClock(noon)[1:]...)
	if got, ok := decodeClock(append(newer, 0x01)); !ok || !got.Equal(noon) {
		t.Errorf("with a field more: %v, %v", got, ok)
	}
}

func TestTheOffsetOfAClockIsForgottenWithTheMember(t *testing.T) {
	table := newTable(nil)
	m, name := sample(0)
	table.compared(name, time.Second, time.Millisecond, noon, noon) // unknown: no effect
	table.alive(name, testAddr, m, nil, noon)
	table.compared(name, time.Hour, time.Millisecond, noon, noon)
	table.alive(name, testAddr, m, nil, noon) // it tells something about itself
	if got := table.list()[0]; got.ClockOffset != time.Hour || got.ClockError != time.Millisecond {
		t.Errorf("off by %v ± %v", got.ClockOffset, got.ClockError)
	}
	table.gone(name, noon)
	table.compared(name, time.Hour, time.Millisecond, noon, noon)
	if got := table.list()[0]; got.ClockOffset != 0 || got.ClockError != 0 {
		t.Errorf("one that is gone is off by %v ± %v", got.ClockOffset, got.ClockError)
	}
}

// TestAnAnswerToAProbeIsWrittenAsItAlwaysWas pins the bytes that other versions read.
func TestAnAnswerToAProbeIsWrittenAsItAlwaysWas(t *testing.T) {
	const want = "91cf18b1ed9e2a7e8000"
	if got := hex.EncodeToString(encodeClock(time.Unix(0, 0x18b1ed9e2a7e8000))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzClock(f *testing.F) {
	f.Add(encodeClock(noon))
	f.Add(encodeAnswer(noon, &Report{Version: "1", Ready: true, StoreBytes: 1 << 40}))
	f.Add(append([]byte{0x92}, append(encodeClock(noon)[1:], 0x01)...))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if report := decodeReport(payload); report != nil && decodeReport(encodeAnswer(noon, report)) == nil {
			t.Errorf("%+v cannot be told", report)
		}
		theirs, ok := decodeClock(payload)
		if !ok {
			return
		}
		if again, ok := decodeClock(encodeClock(theirs)); !ok || !again.Equal(theirs) {
			t.Errorf("%v became %v, %v", theirs, again, ok)
		}
		if _, bound := offsetOf(theirs, noon, time.Second); bound != time.Second/2 {
			t.Errorf("off by more than %v", bound)
		}
	})
}
