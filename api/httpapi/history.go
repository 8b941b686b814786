package httpapi

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/peerd/peerd/internal/beat"
	"github.com/peerd/peerd/internal/latency"
	"github.com/peerd/peerd/peer"
)

const (
	// sampleEvery is how far samples are apart, and maxSamples how many are kept: an hour, in some
	// 20 KB.
	sampleEvery = 10 * time.Second
	maxSamples  = 360
	// markEvery is how far marks are apart, and maxMarks how many are kept: an hour, in some 120 KB.
	markEvery = time.Second
	maxMarks  = 3600
)

// history is the last hour of this host, in memory. It may be used by many goroutines at once.
type history struct {
	mu      sync.Mutex
	samples []sample // the oldest first; at most maxSamples
	marks   []mark   // likewise; at most maxMarks
	counted latency.Counts
	at      time.Time // of counted; zero before the first sample
}

// sample is how a host was at one moment. What is not known is null.
type sample struct {
	At         time.Time `json:"at"`
	Operations *float64  `json:"operations"`  // a second, since the sample before
	P99        *float64  `json:"p99_ms"`      // of their times, up to a factor of two; null without any
	Lag        *float64  `json:"lag_seconds"` // of the linked member that is furthest behind; null without one
	StoreBytes int64     `json:"store_bytes"`
	FreeBytes  *uint64   `json:"free_bytes"` // of the disk; null in memory
}

// mark is how many writes were here at one moment: who lacks n of them now has those of the
// moment at which there were n fewer.
type mark struct {
	at     time.Time
	writes uint64
}

// keepHistory keeps the history until ctx ends.
func (s *Server) keepHistory(ctx context.Context) {
	for {
		now := time.Now()
		if writes, err := s.peer.Mutations(); err == nil && s.history.mark(now, writes) {
			if status, err := s.peer.Status(); err == nil {
				s.history.note(now, &status, s.counted())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-beat.After(markEvery):
		}
	}
}

// counted returns the times of all operations on data so far, over both protocols.
func (s *Server) counted() (sum latency.Counts) {
	add := func(c latency.Counts) {
		for i, n := range c.Buckets {
			sum.Buckets[i] += n
		}
		sum.Total += c.Total
	}
	for route, c := range s.Metrics().Times {
		if strings.Contains(route, " /v1/keys") || strings.HasSuffix(route, " /v1/tx") {
			add(c)
		}
	}
	if s.redis != nil {
		for _, c := range s.redis().Times {
			add(c)
		}
	}
	return sum
}

// mark takes a mark, and reports whether a sample is due.
func (h *history) mark(now time.Time, writes uint64) (due bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.marks = append(h.marks, mark{now, writes})
	h.marks = h.marks[max(0, len(h.marks)-maxMarks):]
	return h.at.IsZero() || now.Sub(h.at) >= sampleEvery-markEvery/2
}

// note takes a sample.
func (h *history) note(now time.Time, status *peer.Status, counts latency.Counts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := sample{At: now.UTC(), StoreBytes: status.StoreBytes}
	if passed := now.Sub(h.at).Seconds(); !h.at.IsZero() && passed > 0 {
		rate := float64(counts.Total-h.counted.Total) / passed
		one.Operations, one.P99 = &rate, slowest(h.counted, counts)
	}
	if status.MinFreeBytes > 0 {
		one.FreeBytes = new(status.FreeBytes) // and not the rest of the status, for an hour
	}
	for _, m := range h.behind(now, status) {
		if m.Seconds != nil && (one.Lag == nil || *m.Seconds > *one.Lag) {
			one.Lag = m.Seconds
		}
	}
	h.counted, h.at = counts, now
	h.samples = append(h.samples, one)
	h.samples = h.samples[max(0, len(h.samples)-maxSamples):]
}

func writesOf(status *peer.Status) (n uint64) {
	for _, space := range status.Spaces {
		n += space.Mutations
	}
	return n
}

// slowest returns what 99 in 100 of the operations between two counts took at most, in
// milliseconds; nil if there were none.
func slowest(before, after latency.Counts) *float64 {
	total, sum := uint64(0), uint64(0)
	for i := range after.Buckets {
		total += after.Buckets[i] - before.Buckets[i]
	}
	for i := range after.Buckets {
		sum += after.Buckets[i] - before.Buckets[i]
		if total > 0 && sum*100 >= total*99 {
			bound := latency.Bound(i)
			if bound == 0 {
				bound = latency.Bound(i - 1) // longer than that
			}
			ms := milliseconds(bound)
			return &ms
		}
	}
	return nil
}

// behind is how far a member is behind this host.
type behind struct {
	PeerID  string   `json:"peer_id"`
	Seconds *float64 `json:"seconds"` // null without a link: then it is not known
}

// behind returns how old the writes are that each member lacks, up to the time between two marks
// and to the hour that they reach back. h.mu is held.
func (h *history) behind(now time.Time, status *peer.Status) []behind {
	all, writes := []behind{}, writesOf(status)
	for _, m := range status.Members {
		one := behind{PeerID: m.PeerID}
		if m.Alive && m.Linked && m.TheyLack != nil {
			seconds := 0.0
			for i := len(h.marks) - 1; *m.TheyLack > 0 && i >= 0; i-- {
				seconds = max(0, now.Sub(h.marks[i].at).Seconds())
				if h.marks[i].writes+*m.TheyLack <= writes {
					break
				}
			}
			one.Seconds = &seconds
		}
		all = append(all, one)
	}
	return all
}

// told is the answer about the history.
type told struct {
	Samples []sample `json:"samples"` // each sampleEvery, for an hour; the oldest first
	Behind  []behind `json:"behind"`  // the members, now
}

// answerHistory answers how this host was in the last hour, after ?since=, and how far others are
// behind.
func (s *Server) answerHistory(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r, "since")
	since, text := time.Time{}, q.values.Get("since")
	if text != "" {
		var err error
		if since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			q.fail("since: must be a time, as samples have it")
		}
	}
	if q.err != nil {
		return q.err
	}
	status, err := s.peer.Status()
	if err != nil {
		return err
	}
	s.history.mu.Lock()
	out := told{Samples: []sample{}, Behind: s.history.behind(time.Now(), &status)}
	for _, one := range s.history.samples {
		if one.At.After(since) {
			out.Samples = append(out.Samples, one)
		}
	}
	s.history.mu.Unlock()
	answerJSON(w, http.StatusOK, out)
	return nil
}
