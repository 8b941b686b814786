package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

func TestAProcessThatDoesNotEndIsEndedAndSaysWhatItWaitsFor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	stop := endInTime(ctx, time.Millisecond, &stderr, newLogger(&stderr, nil, "text"), func(status int) { ended <- status })
	defer stop()
	cancel()
	if status := <-ended; status != exitFailure {
		t.Errorf("ended with %d", status)
	}
	for _, part := range []string{"TestAProcessThatDoesNotEnd", "did not end in time", "nothing acknowledged is lost"} {
		if !strings.Contains(stderr.String(), part) {
			t.Errorf("says nothing of %q:\n%s", part, &stderr)
		}
	}
}

func TestAProcessThatEndsInTimeIsLeftAlone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stop := endInTime(ctx, time.Hour, nil, nil, func(int) { t.Error("ended") })
	cancel()
	stop()
}
