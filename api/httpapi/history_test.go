package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/internal/latency"
	"github.com/peerd/peerd/peer"
)

// hour is a history that a test writes, second by second.
type hour struct {
	history
	now    time.Time
	status peer.Status
	times  latency.Histogram
}

func newHour() *hour {
	return &hour{now: time.Unix(1_000_000, 0), status: peer.Status{
		Spaces: []peer.SpaceStatus{{Mutations: 1000}}, FreeBytes: 7, MinFreeBytes: 1, StoreBytes: 5,
	}}
}

// pass lets seconds pass in which so many writes come, each second.
func (h *hour) pass(seconds int, writes uint64) {
	for range seconds {
		h.now = h.now.Add(time.Second)
		h.status.Spaces[0].Mutations += writes
		if h.mark(h.now, h.status.Spaces[0].Mutations) {
			h.note(h.now, &h.status, h.times.Counts())
		}
	}
}

func TestASampleSaysWhatHappenedSinceTheOneBefore(t *testing.T) {
	h := newHour()
	h.pass(1, 0)
	h.times.Observe(20*time.Microsecond, 980)
	h.times.Observe(3*time.Millisecond, 20)
	h.pass(10, 0)
	h.pass(10, 0)
	if len(h.samples) != 3 {
		t.Fatalf("%d samples in 21 s", len(h.samples))
	}
	first, busy, idle := h.samples[0], h.samples[1], h.samples[2]
	if first.Operations != nil || first.P99 != nil || *first.FreeBytes != 7 || first.StoreBytes != 5 {
		t.Errorf("the first sample, which follows none, is %+v", first)
	}
	if *busy.Operations != 100 || *busy.P99 != 4.096 || busy.Lag != nil {
		t.Errorf("1000 operations in 10 s are %v a second, of %v ms, lag %v", *busy.Operations, *busy.P99, busy.Lag)
	}
	if *idle.Operations != 0 || idle.P99 != nil {
		t.Errorf("without operations: %v a second, of %v ms", *idle.Operations, idle.P99)
	}
}

func TestAMemberIsAsFarBehindAsTheWritesThatItLacksAreOld(t *testing.T) {
	h := newHour()
	h.pass(60, 10)
	h.status.Members = []peer.Member{
		{PeerID: "level", Alive: true, Linked: true, TheyLack: new(uint64(0))},
		{PeerID: "late", Alive: true, Linked: true, TheyLack: new(uint64(300))},
		{PeerID: "first", Alive: true, Linked: true, TheyLack: new(uint64(1 << 40))},
		{PeerID: "cut", Alive: true},
	}
	got := map[string]float64{}
	for _, m := range h.behind(h.now, &h.status) {
		if got[m.PeerID] = -1; m.Seconds != nil {
			got[m.PeerID] = *m.Seconds
		}
	}
	want := map[string]float64{"level": 0, "late": 30, "first": 59, "cut": -1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	h.pass(10, 10)
	if lag := h.samples[len(h.samples)-1].Lag; lag == nil || *lag < 60 {
		t.Errorf("the lag is %v", lag)
	}
}

func TestTheHistoryIsAnHourInLessThanAMiB(t *testing.T) {
	h := newHour()
	h.pass(2*maxMarks, 1)
	if len(h.samples) != maxSamples || len(h.marks) != maxMarks {
		t.Errorf("%d samples and %d marks are kept", len(h.samples), len(h.marks))
	}
	if hour := h.now.Sub(h.samples[0].At); hour < time.Hour-sampleEvery || hour > time.Hour {
		t.Errorf("it reaches back %v", hour)
	}
	const perSample, perMark = 200, 32 // bytes; what append keeps free is at most as much again
	if size := 2 * (cap(h.samples)*perSample + cap(h.marks)*perMark); size > 1<<20 {
		t.Errorf("it takes %d bytes", size)
	}
}

func TestAServerTellsItsHistoryAndItsClients(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.s = New(Config{Peer: a.p, Redis: func() Redis {
		return Redis{Connected: 1, Clients: []Client{{ID: 7, Address: "here", Since: time.Unix(1, 0).UTC()}},
			Slow: []SlowCommand{{At: time.Unix(2, 0).UTC(), Took: time.Second, Command: "get", Key: []byte("\xff")}}}
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		if err := a.s.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	defer served.Wait()
	defer stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var got told
	for len(got.Samples) == 0 {
		<-tick.C
		if err := json.Unmarshal(a.do("GET", "/v1/history", "").Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
	}
	last := got.Samples[0].At.Format(time.RFC3339Nano)
	a.tells(`{"samples":[],"behind":[]}`, "/v1/history?since="+last)
	a.refused(http.StatusBadRequest, "bad-request", "GET", "/v1/history?since=yesterday", "")
	a.tells(`{"connected":1,"clients":[{"id":7,"address":"here","name":"","since":"1970-01-01T00:00:01Z",`+
		`"held_bytes":0}],"slow":[{"at":"1970-01-01T00:00:02Z","took_ms":1000,"command":"get","key":{"base64":"/w=="},`+
		`"client":"","client_name":""}]}`, "/v1/clients")
}

// tells checks an answer that has no token.
func (a *api) tells(want, path string) {
	a.t.Helper()
	var got bytes.Buffer
	if err := json.Compact(&got, a.do("GET", path, "").Body.Bytes()); err != nil || got.String() != want {
		a.t.Errorf("%s is answered with %s (%v), want %s", path, &got, err, want)
	}
}
