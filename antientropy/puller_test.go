package antientropy

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"pgregory.net/rapid"
)

// drawReplicas lives through a random history of three replicas and returns two of them.
func drawReplicas(t *rapid.T) (a, b *replica) {
	all := []*replica{newReplica(11), newReplica(22), newReplica(33)}
	pick := rapid.IntRange(0, len(all)-1) // by number, so that a failure's log stays short
	addresses := crowded()
	for range rapid.IntRange(0, 60).Draw(t, "steps") {
		r := all[pick.Draw(t, "replica")]
		at := rapid.SampledFrom(addresses).Draw(t, "address")
		switch rapid.IntRange(0, 9).Draw(t, "step") {
		case 0:
			r.join(all[pick.Draw(t, "from")])
		case 1, 2:
			r.remove(at)
		case 3, 4:
			r.add(at, drawPayload(t))
		default:
			r.put(at, drawPayload(t))
		}
	}
	return all[0], all[1]
}

func drawPayload(t *rapid.T) []byte {
	size := rapid.SampledFrom([]int{1, 8, 100, HashedAbove, HashedAbove + 1}).Draw(t, "size")
	return bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, size)
}

// conversation is a session between two pinned moments, every message encoded and decoded.
type conversation struct {
	puller *Puller
	stage  *stage
	source *moment
	size   int // of chunks
	next   Request
	done   bool
	trips  int
	sent   int // bytes of requests
	got    int // bytes of responses
	most   int // bytes of the largest message
}

func converse(local, source *moment, size int) *conversation {
	c := &conversation{stage: newStage(), source: source, size: size}
	c.puller = NewPuller(local, c.stage)
	c.next = Request{Kind: KindPin}
	return c
}

// step carries one request and its response.
func (c *conversation) step() error {
	request := EncodeRequest(c.next)
	q, err := DecodeRequest(request)
	if err != nil {
		return err
	}
	answer, err := ServeIn(c.size, c.source, q)
	if err != nil {
		return err
	}
	response := EncodeResponse(answer)
	p, err := DecodeResponse(response)
	if err != nil {
		return err
	}
	c.trips++
	c.sent += len(request)
	c.got += len(response)
	c.most = max(c.most, len(request), len(response))
	ahead, known := Ahead(p)
	c.next, c.done, err = c.puller.Handle(p)
	if err == nil && known && (c.done || !reflect.DeepEqual(c.next, ahead)) {
		err = fmt.Errorf("%v was said ahead, and then %v", ahead, c.next)
	}
	return err
}

func (c *conversation) run() error {
	for !c.done {
		if err := c.step(); err != nil {
			return err
		}
	}
	return nil
}

// differ compares states; payloads nil and empty are the same.
func differ(want, got any) string { return cmp.Diff(want, got, cmpopts.EquateEmpty()) }

func drawChunk(t *rapid.T) int {
	return rapid.SampledFrom([]int{1, 300, 10_000, chunkSize}).Draw(t, "chunk")
}

func TestPullingEqualsJoining(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawReplicas(t)
		want := a.clone()
		want.join(b)
		before, local := a.clone(), a.pin()
		c := converse(local, b.pin(), drawChunk(t))
		c.puller.listed = rapid.SampledFrom([]int{0, 1, 3, 7, MaxListed}).Draw(t, "listed")
		if err := c.run(); err != nil {
			t.Fatal(err)
		}
		if diff := differ(before.state(), local.state()); diff != "" {
			t.Fatalf("a session changed its pinned snapshot:\n%s", diff)
		}
		c.stage.flip(a, c.puller.Result())
		if diff := differ(want.state(), a.state()); diff != "" {
			t.Fatalf("join and pull differ (-join +pull):\n%s", diff)
		}
	})
}

func TestPullingBothWaysMakesReplicasEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawReplicas(t)
		for _, way := range [][2]*replica{{a, b}, {b, a}} {
			c := converse(way[0].pin(), way[1].pin(), drawChunk(t))
			if err := c.run(); err != nil {
				t.Fatal(err)
			}
			c.stage.flip(way[0], c.puller.Result())
		}
		if diff := differ(a.state(), b.state()); diff != "" {
			t.Fatalf("replicas differ (-a +b):\n%s", diff)
		}
	})
}

func TestBootstrapIntoAnEmptyReplicaEqualsTheSource(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, b := drawReplicas(t)
		a := newReplica(44)
		c := converse(a.pin(), b.pin(), drawChunk(t))
		if err := c.run(); err != nil {
			t.Fatal(err)
		}
		c.stage.flip(a, c.puller.Result())
		if diff := differ(b.state(), a.state()); diff != "" {
			t.Fatalf("source and copy differ (-source +copy):\n%s", diff)
		}
	})
}

func TestABootstrapThatAnotherSourceBeganEqualsTheLastOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, second := drawReplicas(t)
		addresses := first.pin().addresses
		if len(addresses) == 0 {
			return
		}
		last := rapid.SampledFrom(addresses).Draw(t, "last")
		a := newReplica(44)
		for _, at := range addresses {
			if dotted.ComparePlaces(at, last) <= 0 {
				a.set(at, first.cells[at])
			}
		}
		c := converse(newReplica(44).pin(), second.pin(), drawChunk(t))
		c.puller.Continue(last, func() (Snapshot, error) {
			c.stage.flip(a, Result{})
			*c.stage = *newStage()
			return a.pin(), nil
		})
		if err := c.run(); err != nil {
			t.Fatal(err)
		}
		c.stage.flip(a, c.puller.Result())
		if diff := differ(second.state(), a.state()); diff != "" {
			t.Fatalf("source and copy differ (-source +copy):\n%s", diff)
		}
	})
}

func TestClearedLeafIsRemovedWithoutAskingForIt(t *testing.T) {
	a, b := newReplica(1), newReplica(2)
	for _, at := range crowded() {
		b.put(at, []byte("old"))
	}
	a.join(b)
	a.put(dotted.KeyAddress("own").Type(crdt.TypeString), []byte("stays"))
	for _, at := range crowded() {
		b.remove(at)
	}
	c := converse(a.pin(), b.pin(), chunkSize)
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
	if got := c.puller.Result(); got.Removed != len(crowded()) || got.Added != 0 || c.trips != 1 {
		t.Fatalf("removed %d, added %d in %d round trips", got.Removed, got.Added, c.trips)
	}
}

// TestTheSourceDoesNotWaitForWhatItHasNothingOf: of much that it has removed there may be enough here for it to take the
// puller for dead.
func TestTheSourceDoesNotWaitForWhatItHasNothingOf(t *testing.T) {
	a, b := newReplica(1), newReplica(2)
	for _, at := range crowded() {
		b.put(at, []byte("old"))
	}
	a.join(b)
	kept := len(crowded()) - 1
	for _, at := range crowded()[:kept] {
		b.remove(at)
	}
	c := converse(a.pin(), b.pin(), chunkSize)
	for !c.done {
		if err := c.step(); err != nil {
			t.Fatal(err)
		}
		if n := c.puller.Result().Removed; !c.done && n > 0 {
			t.Fatalf("%d entries were removed before request %d", n, c.trips+1)
		}
	}
	if n := c.puller.Result().Removed; n != kept || c.trips != 2+Levels {
		t.Fatalf("removed %d in %d round trips", n, c.trips)
	}
}

func TestWhatTheLocalSideRemovedIsNotSentAgain(t *testing.T) {
	a, b := newReplica(1), newReplica(2)
	for _, at := range crowded() {
		b.put(at, make([]byte, 10_000))
	}
	a.join(b)
	for _, at := range crowded() {
		a.remove(at)
	}
	b.put(dotted.KeyAddress("new").Type(crdt.TypeString), []byte("wanted"))
	c := converse(a.pin(), b.pin(), chunkSize)
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
	if got := c.puller.Result(); got.Added != 1 || got.Removed != 0 || c.got > 20_000 {
		t.Fatalf("added %d, removed %d, received %d bytes", got.Added, got.Removed, c.got)
	}
}

func TestReplicaThatRemovedEverythingAsksOnlyForLeavesThatAreNotEmpty(t *testing.T) {
	a, b := newReplica(1), newReplica(2)
	a.put(crowded()[0], []byte("gone"))
	a.remove(crowded()[0])
	b.put(crowded()[1], []byte("wanted"))
	c := converse(a.pin(), b.pin(), chunkSize)
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
	if got := c.puller.Result(); got.Added != 1 || c.trips != 2+Levels {
		t.Fatalf("added %d in %d round trips", got.Added, c.trips)
	}
}

func TestSourceThatIsBehindIsLeftAlone(t *testing.T) {
	a, b := newReplica(1), newReplica(2)
	b.put(crowded()[0], []byte("one"))
	a.join(b)
	a.put(crowded()[1], []byte("two"))
	c := converse(a.pin(), b.pin(), chunkSize)
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
	if c.trips != 1 || len(c.stage.Added)+len(c.stage.Removed) != 0 {
		t.Fatalf("%d round trips, staged %+v", c.trips, c.stage)
	}
}

func TestMessagesKeepToTheirLimitsWithTheLargestEntries(t *testing.T) {
	b := newReplica(2)
	for i := range 8 {
		b.add(crowded()[i%2], bytes.Repeat([]byte{byte(i)}, dotted.MaxPayload))
	}
	for _, at := range crowded() {
		b.add(at, []byte("small"))
	}
	ahead := newReplica(1)
	ahead.put(crowded()[5], []byte("mine"))
	for name, a := range map[string]*replica{"bootstrap": newReplica(3), "repair": ahead} {
		want := a.clone()
		want.join(b)
		c := converse(a.pin(), b.pin(), chunkSize)
		if err := c.run(); err != nil {
			t.Fatal(name, err)
		}
		if limit := dotted.MaxPayload + chunkSize; c.most > limit {
			t.Errorf("%s: a message of %d bytes, want at most %d", name, c.most, limit)
		}
		c.stage.flip(a, c.puller.Result())
		if diff := differ(want.state().Context, a.state().Context); diff != "" {
			t.Errorf("%s: contexts differ:\n%s", name, diff)
		}
		if want.tree.Root() != a.tree.Root() {
			t.Errorf("%s: roots differ", name)
		}
	}
}
