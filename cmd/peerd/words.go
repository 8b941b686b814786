package main

import (
	"fmt"
	"time"
)

// plural returns a count of things.
func plural[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// short returns the first digits of a hash: enough to compare by eye.
func short(hash string) string { return hash[:min(len(hash), 8)] }

// brief returns the end of a peer id: all of them begin alike.
func brief(peerID string) string {
	if len(peerID) <= 8 {
		return peerID
	}
	return "…" + peerID[len(peerID)-8:]
}

// size returns a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 3 {
		value, prefix = value/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[prefix])
}

// took returns how long something took, for people.
func took(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
