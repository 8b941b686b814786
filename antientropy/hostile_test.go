package antientropy

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"pgregory.net/rapid"
)

// pullFrom runs a session whose responses pass through forge. It returns what was staged.
func pullFrom(
	local, source *moment, size int, forge func(q Request, p *Response),
) (*stage, error) {
	staged := newStage()
	puller := NewPuller(local, staged)
	q := Request{Kind: KindPin}
	for done := false; !done; {
		p, err := ServeIn(size, source, q)
		if err != nil {
			return staged, err
		}
		p.Parts = slices.Clone(p.Parts)
		p.Children = slices.Clone(p.Children)
		forge(q, &p)
		if q, done, err = puller.Handle(p); err != nil {
			return staged, err
		}
	}
	return staged, nil
}

// scene returns two replicas that both wrote, in leaves that they share.
func scene() (local, source *replica) {
	local, source = newReplica(1), newReplica(2)
	for i, a := range crowded() {
		if i%2 == 0 {
			local.put(a, []byte("mine"))
		}
		source.put(a, []byte("theirs"))
	}
	return local, source
}

func TestSourcesThatLieAreNoticed(t *testing.T) {
	stray := dotted.KeyAddress("in no leaf that was asked for").Type(crdt.TypeString)
	known := dotted.Entry{Dot: crdt.Dot{Replica: 2, Counter: 1}, Payload: []byte("x")}
	forgeries := map[string]func(q Request, p *Response){
		"another kind": func(q Request, p *Response) { p.Kind = KindNodes + KindLeaves - p.Kind },
		"a child less": func(q Request, p *Response) {
			p.Children = p.Children[:max(len(p.Children)-1, 0)]
		},
		"children that do not add up": func(q Request, p *Response) {
			if len(p.Children) > 0 {
				p.Children[0] += 1 << 40
			}
		},
		"nothing of what it lacks": func(q Request, p *Response) { p.Lacking = nil },
		"more that it lacks than was asked for": func(q Request, p *Response) {
			for i := range p.Lacking {
				p.Lacking[i] = []int{MaxListed - 1}
			}
		},
		"leaves that it was not asked for": func(q Request, p *Response) {
			if p.Kind == KindLeaves {
				p.Lacking = append(p.Lacking, nil)
			}
		},
		"an address outside the leaves": func(q Request, p *Response) {
			p.Parts = append(p.Parts, Part{stray, dotted.Cell{known}})
		},
		"a dot outside the context": func(q Request, p *Response) {
			edit(p, func(e *dotted.Entry) { e.Dot.Counter = 1_000_000 })
		},
		"no payload": func(q Request, p *Response) {
			edit(p, func(e *dotted.Entry) { e.Payload = nil })
		},
		"a zero dot": func(q Request, p *Response) {
			edit(p, func(e *dotted.Entry) { e.Dot = crdt.Dot{} })
		},
		"cells backwards": func(q Request, p *Response) { slices.Reverse(p.Parts) },
		"a cell twice": func(q Request, p *Response) {
			if len(p.Parts) > 0 {
				p.Parts = append(p.Parts[:1], p.Parts...)
			}
		},
		"a cell without entries": func(q Request, p *Response) {
			if len(p.Parts) > 0 {
				p.Parts[0].Entries = nil
			}
		},
		"always more": func(q Request, p *Response) { p.Parts, p.More = nil, true },
	}
	for _, name := range slices.Sorted(maps.Keys(forgeries)) {
		for _, bootstrap := range []bool{false, true} {
			if bootstrap && (strings.Contains(name, "child") || strings.Contains(name, "leaves") || strings.Contains(name, "lacks")) {
				continue // a bootstrap has neither
			}
			local, source := scene()
			if bootstrap {
				local = newReplica(3)
			}
			_, err := pullFrom(local.pin(), source.pin(), chunkSize, func(q Request, p *Response) {
				if p.Kind != KindPin {
					forgeries[name](q, p)
				}
			})
			if !errors.Is(err, ErrBadSource) {
				t.Errorf("%s, bootstrap %v: got %v, want ErrBadSource", name, bootstrap, err)
			}
		}
	}
}

// edit changes the last entry of a response.
func edit(p *Response, fn func(e *dotted.Entry)) {
	if len(p.Parts) == 0 {
		return
	}
	part := &p.Parts[len(p.Parts)-1]
	part.Entries = slices.Clone(part.Entries)
	fn(&part.Entries[len(part.Entries)-1])
}

func TestRestOfACellMayNotBeginAgain(t *testing.T) {
	local, source := newReplica(1), newReplica(2)
	local.put(crowded()[0], []byte("mine"))
	for range 3 {
		source.add(crowded()[0], []byte("theirs"))
	}
	for name, local := range map[string]*replica{"repair": local, "bootstrap": newReplica(3)} {
		var earlier []Part
		_, err := pullFrom(local.pin(), source.pin(), 1, func(q Request, p *Response) {
			if len(p.Parts) == 0 {
				return
			}
			if earlier == nil {
				earlier = p.Parts
			}
			p.Parts = earlier
		})
		if !errors.Is(err, ErrBadSource) {
			t.Errorf("%s: got %v, want ErrBadSource", name, err)
		}
	}
}

func TestBootstrapThatDoesNotSumToItsRootIsRefused(t *testing.T) {
	_, source := scene()
	_, err := pullFrom(newReplica(3).pin(), source.pin(), chunkSize, func(q Request, p *Response) {
		edit(p, func(e *dotted.Entry) { e.Payload = []byte("rotten") })
	})
	if !errors.Is(err, ErrBadSource) {
		t.Fatalf("got %v, want ErrBadSource", err)
	}
}

func TestRotInAMessageNeverStagesWhatTheSourceHasNotSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local, source := scene()
		// Nothing but the stream's encryption vouches for the first message, the context.
		victim := rapid.IntRange(2, 7).Draw(t, "message")
		at, flip := rapid.IntRange(0, 1<<12).Draw(t, "byte"), rapid.Byte().Draw(t, "flip")
		size := drawChunk(t)
		n := 0
		staged, _ := pullFrom(local.pin(), source.pin(), size, func(q Request, p *Response) {
			if n++; n != victim {
				return
			}
			data := EncodeResponse(*p)
			data[at%len(data)] ^= flip
			rotten, err := DecodeResponse(data)
			if err != nil {
				rotten = Response{} // the stream would end here
			}
			*p = rotten
		})
		for a, cell := range staged.Added {
			for _, e := range cell {
				if !source.context.Has(e.Dot) || local.context.Has(e.Dot) {
					t.Fatalf("%v was staged at %q", e.Dot, a)
				}
			}
		}
		if len(staged.Removed) != 0 {
			t.Fatalf("the source saw nothing of ours, and %v would be removed", staged.Removed)
		}
	})
}

func TestEqualContextsWithDifferentContentsAreNotMerged(t *testing.T) {
	local, source := scene()
	local.join(source)
	source.join(local)
	lost := crowded()[0]
	source.set(lost, nil) // as a damaged disk would
	staged, err := pullFrom(local.pin(), source.pin(), chunkSize, func(Request, *Response) {})
	if !errors.Is(err, ErrDiverged) || len(staged.Removed) != 0 {
		t.Fatalf("got %v and removals %v, want ErrDiverged and none", err, staged.Removed)
	}
}

func TestTwoHistoriesOfOneReplicaAreNotMerged(t *testing.T) {
	local, source := scene()
	local.join(source)
	source.heads[2]++
	local.put(crowded()[0], []byte("more"))
	_, err := pullFrom(local.pin(), source.pin(), chunkSize, func(Request, *Response) {})
	if !errors.Is(err, ErrDiverged) {
		t.Fatalf("got %v, want ErrDiverged", err)
	}
}

func TestRecordLostBehindTheTreeIsNotServedAsARemoval(t *testing.T) {
	local, source := scene()
	local.join(source)
	for _, a := range crowded()[1:] {
		source.put(a, []byte("newer"))
	}
	pinned := source.pin()
	lost := crowded()[0]
	leaf := LeafIndex(LeafOf(lost))
	pinned.leaves[leaf] = slices.DeleteFunc(slices.Clone(pinned.leaves[leaf]),
		func(a dotted.Address) bool { return a == lost })
	staged, err := pullFrom(local.pin(), pinned, chunkSize, func(Request, *Response) {})
	if !errors.Is(err, ErrDamaged) || len(staged.Removed) != 0 {
		t.Fatalf("got %v and removals %v, want ErrDamaged and none", err, staged.Removed)
	}
}

func TestContextAheadByOneDotIsNotTakenForEqual(t *testing.T) {
	local, source := scene()
	local.join(source)
	source.remove(crowded()[1])
	staged, err := pullFrom(local.pin(), source.pin(), chunkSize, func(Request, *Response) {})
	if err != nil || len(staged.Removed) != 1 {
		t.Fatalf("got %v and removals %v, want one removal", err, staged.Removed)
	}
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	_, source := scene()
	at := crowded()[0]
	elsewhere := []int{(LeafIndex(LeafOf(at)) + 1) % Leaves}
	for name, q := range map[string]Request{
		"no kind":            {},
		"level too low":      {Kind: KindNodes, Level: Levels, Nodes: []int{0}},
		"level negative":     {Kind: KindNodes, Level: -1, Nodes: []int{0}},
		"no nodes":           {Kind: KindNodes},
		"node off the level": {Kind: KindNodes, Level: 1, Nodes: []int{16}},
		"nodes twice":        {Kind: KindNodes, Level: 1, Nodes: []int{3, 3}},
		"nodes backwards":    {Kind: KindNodes, Level: 1, Nodes: []int{3, 2}},
		"too many nodes":     {Kind: KindNodes, Level: 3, Nodes: upFrom0(MaxNodes + 1)},
		"no leaves":          {Kind: KindLeaves},
		"leaf off the tree":  {Kind: KindLeaves, Leaves: []int{Leaves}},
		"too many leaves":    {Kind: KindLeaves, Leaves: upFrom0(MaxLeaves + 1)},
		"not what is had":    {Kind: KindLeaves, Leaves: []int{3, 4}, Have: [][]uint64{{1}}},
		"cursor elsewhere":   {Kind: KindLeaves, Leaves: elsewhere, Have: [][]uint64{nil}, After: Cursor{Address: at}},
	} {
		if _, err := Serve(source.pin(), q); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%s: got %v, want ErrBadRequest", name, err)
		}
	}
}

func upFrom0(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func TestContextTooLargeForAMessageIsRefused(t *testing.T) {
	source := newReplica(1)
	for i := range crdt.ReplicaID(maxContext) {
		source.context[^i] = 1 << 60
		source.heads[^i] = ^delta.Hash(0)
	}
	p, err := Serve(source.pin(), Request{Kind: KindPin})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeResponse(EncodeResponse(p)); err != nil {
		t.Fatal("the largest context that is served cannot be read:", err)
	}
	source.context[1] = 1
	if _, err := Serve(source.pin(), Request{Kind: KindPin}); !errors.Is(err, ErrTooManyReplicas) {
		t.Fatalf("got %v, want ErrTooManyReplicas", err)
	}
}

func TestErrorsOfTheStageEndTheSession(t *testing.T) {
	local, source := scene()
	full := errors.New("the disk is full")
	puller := NewPuller(local.pin(), failing{full})
	q, done, err := Request{Kind: KindPin}, false, error(nil)
	for !done && err == nil {
		var p Response
		if p, err = Serve(source.pin(), q); err == nil {
			q, done, err = puller.Handle(p)
		}
	}
	if !errors.Is(err, full) || errors.Is(err, wire.ErrMalformed) {
		t.Fatalf("got %v, want the stage's error", err)
	}
}

// failing is a Staging that refuses everything.
type failing struct{ err error }

func (f failing) Add(dotted.Address, []dotted.Entry) error { return f.err }
func (f failing) Remove(dotted.Address, []crdt.Dot) error  { return f.err }
