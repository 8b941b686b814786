package scenario

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nbd-wtf/go-nostr"
	"github.com/nbd-wtf/go-nostr/nip77/negentropy"
	"github.com/nbd-wtf/go-nostr/nip77/negentropy/storage/vector"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/bench/internal/report"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
)

const (
	repairKey   = 16 // bytes of a cell's address
	repairValue = 64
)

// difference is what one side lacks: cells that the other one has written anew.
type difference struct {
	cells   int
	changed []int // their numbers
}

func (d difference) has(i int) bool {
	_, found := slices.BinarySearch(d.changed, i)
	return found
}

// outcome is what a repair cost, payloads included.
type outcome struct {
	bytes, trips int
}

// repairer is a way to find and carry differences. prepare makes both sides; what it returns
// repairs, and is timed.
type repairer struct {
	name, version, settings string
	prepare                 func(difference) func() (outcome, error)
}

var repairers = []repairer{
	{"peerd", "this tree", "antientropy: a tree of sums, short fingerprints in leaves", prepareOwn},
	{"negentropy", "", "ranges of 16, ids of 32 bytes in the order of their times", prepareNegentropy},
	{"Merkle", "here", "as Cassandra's: a leaf a cell, at most 2²⁰, SHA-256; then keys and versions " +
		"of leaves that differ", prepareMerkle},
	{"floor", "", "log₂ of the ways to choose the cells, and their values", prepareFloor},
}

func repair(ctx context.Context, b *bench) error {
	for _, r := range repairers {
		if r.name == "negentropy" {
			r.version = version("github.com/nbd-wtf/go-nostr")
		}
		b.System(r.name, r.version, r.settings, "in memory")
	}
	b.Setting("cells with keys of %d bytes and values of %d; differences are cells that one side "+
		"has written "+
		"anew; all messages and values are counted, in one process, without a network", repairKey, repairValue)
	b.Note("No log reaches back here. Where it does, peerd sends what was written and nothing " +
		"else: see catchup.")
	b.Note("Negentropy finds ids only: the keys and values of what is missing are counted as it " +
		"would send them. " +
		"Its order is that of time, so what was changed last is side by side, scattered or not.")
	b.Note("Trees stand ready at both sides: a plain one is built anew for each repair in " +
		"systems that have it, " +
		"which is not counted. Negentropy's vector adds its ranges up each time, as its author's " +
		"does.")
	b.Note("peerd and negentropy write and read their messages in that time; the plain tree's are " +
		"only counted, and its nodes compared in place.")
	b.Note("The floor is for a receiver that knows all keys; no protocol of few round trips " +
		"reaches it.")
	b.Note("Where all cells differ there is nothing to find: 10,000 of 10,000 is left out.")
	cells := size(b, []int{10_000, 100_000}, []int{10_000, 100_000, 1_000_000, 10_000_000})
	for i, n := range cells {
		differences := size(b, []int{1, 100, 1_000}, []int{1, 10, 100, 1_000, 10_000})
		if n > 1_000_000 {
			differences = []int{1, 10_000} // nearly all of the time goes into trees of so many cells
			b.Note("Among %s cells only 1 and 10,000 differences were measured.", report.Count(n))
		}
		for j, d := range differences {
			from := (float64(i) + float64(j)/float64(len(differences))) / float64(len(cells))
			for _, clustered := range []bool{false, true} {
				if err := ctx.Err(); err != nil {
					return err
				}
				if d < n && (d > 1 || !clustered) {
					if err := b.repairOnce(from, n, d, clustered); err != nil {
						return err
					}
				}
			}
		}
		b.repairChart(n)
	}
	return nil
}

func repairName(cells, d int, clustered bool) string {
	where := "scattered"
	if clustered {
		where = "clustered"
	}
	return fmt.Sprintf("%s of %s, %s", report.Count(d), report.Count(cells), where)
}

func (b *bench) repairOnce(from float64, cells, d int, clustered bool) error {
	chance := rand.New(rand.NewPCG(uint64(cells), uint64(d)))
	diff := difference{cells: cells}
	first := chance.IntN(cells - d + 1)
	for i := range d {
		diff.changed = append(diff.changed, first+i)
	}
	if !clustered {
		chosen := map[int]bool{}
		for len(chosen) < d {
			chosen[chance.IntN(cells)] = true
		}
		diff.changed = diff.changed[:0]
		for i := range chosen {
			diff.changed = append(diff.changed, i)
		}
		slices.Sort(diff.changed)
	}
	what := repairName(cells, d, clustered)
	ready := make([]func() (outcome, error), len(repairers))
	return b.inTurn(from, from, what, len(repairers), func(round, i int) error {
		r := repairers[i]
		if round == 0 {
			ready[i] = r.prepare(diff)
		}
		began := time.Now()
		o, err := ready[i]()
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		b.Less(what, "bytes a difference", r.name, float64(o.bytes)/float64(d))
		if r.name != "floor" {
			b.Less(what, "round trips", r.name, float64(o.trips))
			b.Less(what, "ms, both sides", r.name, float64(time.Since(began))/float64(time.Millisecond))
		}
		return nil
	})
}

func (b *bench) repairChart(cells int) {
	chart := report.Chart{Name: fmt.Sprint("bytes-", cells), Title: fmt.Sprintf(
		"Repair among %s cells, scattered: bytes a difference", report.Count(cells)),
		XLabel: "differences", YLabel: "bytes", LogX: true, LogY: true}
	for _, r := range repairers {
		line := report.Line{System: r.name, Theory: r.name == "floor"}
		for d := 1; d < cells; d *= 10 {
			if m := b.Spread(repairName(cells, d, false), r.name); m.Value > 0 {
				line.Point(float64(d), m)
			}
		}
		chart.Lines = append(chart.Lines, line)
	}
	b.Charts = append(b.Charts, chart)
}

func prepareFloor(d difference) func() (outcome, error) {
	return func() (outcome, error) {
		bits := 0.0 // log₂ of n over k
		for i := range len(d.changed) {
			bits += math.Log2(float64(d.cells-i)) - math.Log2(float64(i+1))
		}
		return outcome{int(math.Ceil(bits/8)) + len(d.changed)*repairValue, 1}, nil
	}
}

// moment is a replica's cells as antientropy wants to see them.
type moment struct {
	places  []dotted.Address // in their order
	cells   []dotted.Cell
	leaves  map[int][]int32 // which of them a leaf has
	tree    *antientropy.Tree
	context crdt.VersionVector
	heads   delta.Heads
	bases   *delta.Bases
}

// cellAddress is that of the i-th cell. A repair does not look at types: any will do.
func cellAddress(i int) dotted.Address {
	return dotted.KeyAddress(fmt.Sprintf("user:%08d", i)).Type(crdt.Types(1).First())
}

func newMoment(n int) *moment {
	m := &moment{leaves: map[int][]int32{}, tree: new(antientropy.Tree), bases: &delta.Bases{},
		context: crdt.VersionVector{1: uint64(n)}, heads: delta.Heads{1: 1}}
	for i := range n {
		a := cellAddress(i) // ascending: numbers have leading zeros
		leaf := antientropy.LeafIndex(antientropy.LeafOf(a))
		e := dotted.Entry{Dot: crdt.Dot{Replica: 1, Counter: uint64(i + 1)}, Payload: make([]byte, repairValue)}
		m.places, m.cells = append(m.places, a), append(m.cells, dotted.Cell{e})
		m.leaves[leaf] = append(m.leaves[leaf], int32(i))
		m.tree.Add(leaf, antientropy.Of(a, e))
	}
	return m
}

// changed returns the moment in which another replica has written some cells anew.
func (m *moment) changed(numbers []int) *moment {
	c := *m
	c.cells, c.tree = slices.Clone(m.cells), m.tree.Clone()
	c.context, c.heads = m.context.Clone(), delta.Heads{1: 1, 2: 2}
	for _, i := range numbers {
		leaf := antientropy.LeafIndex(antientropy.LeafOf(c.places[i]))
		c.context[2]++
		e := dotted.Entry{Dot: crdt.Dot{Replica: 2, Counter: c.context[2]}, Payload: make([]byte, repairValue)}
		c.tree.Sub(leaf, antientropy.Of(c.places[i], c.cells[i][0]))
		c.tree.Add(leaf, antientropy.Of(c.places[i], e))
		c.cells[i] = dotted.Cell{e}
	}
	return &c
}

// The methods of antientropy.Snapshot.

func (m *moment) Count() int                                 { return len(m.cells) }
func (m *moment) Context() (crdt.VersionVector, delta.Heads) { return m.context, m.heads }
func (m *moment) Vector() crdt.VersionVector                 { return m.context }
func (m *moment) Bases() *delta.Bases                        { return m.bases }

func (m *moment) Node(level, index int) antientropy.Fingerprint { return m.tree.Node(level, index) }

func (m *moment) Cell(a dotted.Address) (dotted.Cell, error) {
	if i, ok := slices.BinarySearchFunc(m.places, a, dotted.ComparePlaces); ok {
		return m.cells[i], nil
	}
	return nil, nil
}

func (m *moment) Cells(after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	for i, a := range m.places {
		if dotted.ComparePlaces(a, after) > 0 && !fn(a, m.cells[i]) {
			break
		}
	}
	return nil
}

func (m *moment) Leaf(leaf int, after dotted.Address, fn func(dotted.Address, dotted.Cell) bool) error {
	for _, i := range m.leaves[leaf] {
		if a := m.places[i]; dotted.ComparePlaces(a, after) > 0 && !fn(a, m.cells[i]) {
			break
		}
	}
	return nil
}

// staged counts what a session finds.
type staged struct{ added, removed int }

func (s *staged) Add(_ dotted.Address, entries []dotted.Entry) error {
	s.added += len(entries)
	return nil
}

func (s *staged) Remove(_ dotted.Address, dots []crdt.Dot) error {
	s.removed += len(dots)
	return nil
}

func prepareOwn(d difference) func() (outcome, error) {
	old := newMoment(d.cells)
	source := old.changed(d.changed)
	return func() (o outcome, err error) {
		found := new(staged)
		p := antientropy.NewPuller(old, found)
		request, done := antientropy.Request{Kind: antientropy.KindPin}, false
		for !done {
			out := antientropy.EncodeRequest(request)
			response, err := antientropy.Serve(source, request)
			if err != nil {
				return o, err
			}
			in := antientropy.EncodeResponse(response)
			o.bytes += len(out) + len(in)
			o.trips++
			if response, err = antientropy.DecodeResponse(in); err != nil {
				return o, err
			}
			if request, done, err = p.Handle(response); err != nil {
				return o, err
			}
		}
		if found.added != len(d.changed) || found.removed != len(d.changed) {
			return o, fmt.Errorf("%d of %d differences were found", found.added, len(d.changed))
		}
		return o, nil
	}
}

// itemID is the id of a version of a cell.
func itemID(cell, version int) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(cell))
	binary.BigEndian.PutUint64(b[8:], uint64(version))
	id := sha256.Sum256(b[:])
	return hex.EncodeToString(id[:])
}

func prepareNegentropy(d difference) func() (outcome, error) {
	old, newer := vector.New(), vector.New()
	for i := range d.cells {
		old.Insert(nostr.Timestamp(i), itemID(i, 0))
		if !d.has(i) {
			newer.Insert(nostr.Timestamp(i), itemID(i, 0))
		}
	}
	for j, i := range d.changed {
		newer.Insert(nostr.Timestamp(d.cells+j), itemID(i, 1))
	}
	old.Seal()
	newer.Seal()
	return func() (o outcome, err error) {
		client, server := negentropy.New(old, 0), negentropy.New(newer, 0)
		missing, counted := 0, make(chan struct{})
		go func() {
			for range client.HaveNots {
				missing++
			}
			close(counted)
		}()
		go func() {
			for range client.Haves {
			}
		}()
		for message := client.Start(); message != ""; {
			answer, err := server.Reconcile(message)
			if err != nil {
				return o, err
			}
			o.bytes += (len(message) + len(answer)) / 2 // they are in hexadecimal digits
			o.trips++
			if message, err = client.Reconcile(answer); err != nil {
				return o, err
			}
		}
		<-counted
		if missing != len(d.changed) {
			return o, fmt.Errorf("%d of %d differences were found", missing, len(d.changed))
		}
		o.trips++ // asks for what is missing
		o.bytes += missing * (sha256.Size + repairKey + repairValue)
		return o, nil
	}
}

// merkleLevels is how deep the plain tree is: Cassandra's repairs have about a leaf a partition, and
// at most 2²⁰ (of old 2¹⁵, whatever there was).
func merkleLevels(cells int) int { return min(20, bits.Len(uint(max(1, cells-1)))) }

// merkle is a binary tree of hashes over ranges of hashed keys.
type merkle struct {
	levels int
	nodes  [][sha256.Size]byte // 1 is the root, 2n and 2n+1 are below n
	leaves [][]int             // which cells a leaf has
}

func newMerkle(cells int, version func(i int) int) *merkle {
	levels := merkleLevels(cells)
	leaves := 1 << levels
	t := &merkle{levels, make([][sha256.Size]byte, 2*leaves), make([][]int, leaves)}
	for i := range cells {
		leaf := scramble(uint64(i)) % uint64(leaves)
		t.leaves[leaf] = append(t.leaves[leaf], i)
	}
	for leaf, all := range t.leaves {
		var b []byte
		for _, i := range all {
			b = binary.BigEndian.AppendUint64(b, uint64(i))
			b = binary.BigEndian.AppendUint64(b, uint64(version(i)))
		}
		t.nodes[leaves+leaf] = sha256.Sum256(b)
	}
	for n := leaves - 1; n > 0; n-- {
		t.nodes[n] = sha256.Sum256(append(t.nodes[2*n][:], t.nodes[2*n+1][:]...))
	}
	return t
}

func prepareMerkle(d difference) func() (outcome, error) {
	version := func(i int) int {
		if d.has(i) {
			return 1
		}
		return 0
	}
	old, newer := newMerkle(d.cells, func(int) int { return 0 }), newMerkle(d.cells, version)
	return func() (o outcome, err error) {
		differ := []int{1}
		o.bytes, o.trips = 2*sha256.Size, 1 // the roots
		for range old.levels {
			var below []int
			for _, n := range differ {
				o.bytes += 2 * sha256.Size // of both below
				for _, child := range []int{2 * n, 2*n + 1} {
					if old.nodes[child] != newer.nodes[child] {
						below = append(below, child)
					}
				}
			}
			o.bytes += (len(differ)*2 + 7) / 8 // which of them differ
			o.trips++
			differ = below
		}
		const versionBytes = 8
		found := 0
		for _, n := range differ {
			for _, i := range newer.leaves[n-1<<newer.levels] {
				o.bytes += repairKey + versionBytes
				found += version(i)
			}
		}
		o.trips += 2 // the keys, and then the values that are asked for
		o.bytes += found * (repairKey + repairValue)
		if found != len(d.changed) {
			return o, fmt.Errorf("%d of %d differences were found", found, len(d.changed))
		}
		return o, nil
	}
}
