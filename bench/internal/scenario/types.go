package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/peerd/peerd/bench/internal/measure"
	"github.com/peerd/peerd/bench/internal/report"
	"github.com/peerd/peerd/crdt"
)

// nodeLibraries are the rivals of JavaScript, by the names of their packages.
var nodeLibraries = []struct{ name, pkg string }{
	{"yjs", "yjs"}, {"loro", "loro-crdt"}, {"automerge", "@automerge/automerge"},
}

// nodeTask is what node/rivals.mjs says of one task.
type nodeTask struct{ Us, Bytes, Trips float64 }

// node returns the directory of the rivals of JavaScript, "" if they cannot be installed, and names
// them as systems.
func (b *bench) node(ctx context.Context) string {
	dir := filepath.Join(b.Repo, "bench", "node")
	if err := b.Node(ctx, dir); err != nil {
		b.Skip("yjs, loro, automerge", err)
		return ""
	}
	for _, l := range nodeLibraries {
		version, err := b.ToolIn(ctx, dir, "node", "-p", fmt.Sprintf(
			"JSON.parse(fs.readFileSync('node_modules/%s/package.json')).version", l.pkg))
		if err != nil {
			version = "unknown"
		}
		b.System(l.name, strings.TrimSpace(version),
			"npm, Node.js "+b.programVersion(ctx, "node", "--version"), "in memory")
	}
	return dir
}

// nodeRun has a library do something, and returns its tasks by name.
func (b *bench) nodeRun(ctx context.Context, dir, what, library string, n int) (
	found map[string]nodeTask, err error) {
	out, err := b.ToolIn(ctx, dir, "node", "rivals.mjs", what, library, fmt.Sprint(n))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", library, err)
	}
	return found, json.Unmarshal([]byte(out), &found)
}

// kind is a type of package crdt, and how its i-th element, or the i-th change of it, is written.
type kind struct {
	name  string
	write func(keys crdt.Fields, i int) error
}

var typeValue = []byte("xxxxxxxxxxxxxxxx")

func second[T any](_ T, err error) error { return err }

var kinds = []kind{
	{"map", func(f crdt.Fields, i int) error {
		return f.Map("m").String(fmt.Sprint("field:", i)).Set(typeValue)
	}},
	{"nested map", func(f crdt.Fields, i int) error {
		return f.Map("m").Map(fmt.Sprint("field:", i)).String("name").Set(typeValue)
	}},
	{"counter", func(f crdt.Fields, _ int) error { return second(f.Counter("c").Add(1)) }},
	{"list", func(f crdt.Fields, i int) error { return f.List("l").Insert(i, typeValue) }}, // behind all; see fill
	{"set", func(f crdt.Fields, i int) error { return second(f.Set("s").Add(fmt.Sprint("element:", i))) }},
	{"sorted set", func(f crdt.Fields, i int) error {
		return second(f.SortedSet("z").Set(fmt.Sprint("element:", i), float64(i)))
	}},
	{"register", func(f crdt.Fields, i int) error { return f.Register(fmt.Sprint("r:", i)).Set(typeValue) }},
	{"string", func(f crdt.Fields, i int) error { return f.String(fmt.Sprint("key:", i)).Set(typeValue) }},
	{"flag", func(f crdt.Fields, i int) error { return f.Flag(fmt.Sprint("f:", i)).Set(true) }},
	{"bitmap", func(f crdt.Fields, i int) error { return second(f.Bitmap("b").SetBit(i*64, true)) }},
	{"HyperLogLog", func(f crdt.Fields, i int) error {
		return second(f.HyperLogLog("h").Add(fmt.Sprint("element:", i)))
	}},
	{"stream", func(f crdt.Fields, i int) error {
		return f.Stream("x").AddAs(crdt.StreamID{Ms: uint64(i + 1)}, "field", string(typeValue))
	}},
	{"string that expires", func(f crdt.Fields, i int) error {
		key := fmt.Sprint("key:", i)
		if err := f.String(key).Set(typeValue); err != nil {
			return err
		}
		return second(f.Expiry(key).Set(expires))
	}},
}

// expires is when something does that expires: long after any run.
var expires = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)

// fill writes the first n elements: those of a list at once, as each call counts what is there.
func (k kind) fill(keys crdt.Fields, n int) error {
	if k.name == "list" {
		return keys.List("l").Insert(0, slices.Repeat([][]byte{typeValue}, n)...)
	}
	for i := range n {
		if err := k.write(keys, i); err != nil {
			return err
		}
	}
	return nil
}

func types(ctx context.Context, b *bench) error {
	n := size(b, 500, 3_000)
	b.System("peerd", "this tree", "package crdt, State", "in memory")
	dir := b.node(ctx)
	b.Setting("%s elements in one transaction, 16 bytes each; then %d more, each a delta of its "+
		"own; the median "+
		"of five in each process, once it is warm", report.Count(n), deltas(n))
	b.Note("peerd keeps what is there and a version vector. Loro and Automerge keep, encode and " +
		"merge the " +
		"history of all changes as well, Yjs what was there of it.")
	b.Note("peerd is Go, Loro and Automerge are Rust in WebAssembly, Yjs is JavaScript: this " +
		"says what a " +
		"user of each gets, not whose algorithm is better.")
	b.Note("A list is filled by one call of peerd's: one by one in a State, each insertion counts the " +
		"elements that are there. The others push them one by one.")
	b.Note("peerd's deltas are those of package crdt, which name each cell; what the database " +
		"sends is packed further.")
	systems := 1
	if dir != "" {
		systems += len(nodeLibraries)
	}
	err := b.inTurn(0, 1, "all types", systems, func(_, i int) error {
		if i == 0 {
			return b.ownTypes(n)
		}
		found, err := b.nodeRun(ctx, dir, "types", nodeLibraries[i-1].name, n)
		for _, task := range slices.Sorted(maps.Keys(found)) {
			b.typeTask(nodeLibraries[i-1].name, task, found[task])
		}
		return err
	})
	b.typeCharts()
	return err
}

// deltas is how many are merged into n elements, as in node/rivals.mjs.
func deltas(n int) int { return min(n/10, 200) }

func (b *bench) typeTask(system, task string, r nodeTask) {
	b.Less(task, "µs each", system, r.Us)
	if r.Bytes > 0 {
		b.Less(task, "bytes each", system, r.Bytes)
	}
}

func (b *bench) ownTypes(n int) error {
	for _, k := range kinds {
		if err := b.ownType(k, n); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return nil
}

// timed does something five times, and returns the median in µs and an error of any.
func timed(fn func() error) (float64, error) {
	var all []float64
	for range 5 {
		began := time.Now()
		if err := fn(); err != nil {
			return 0, err
		}
		all = append(all, float64(time.Since(began))/float64(time.Microsecond))
	}
	return measure.Median(all), nil
}

func (b *bench) ownType(k kind, n int) error {
	var full *crdt.State
	us, err := timed(func() error {
		full = crdt.NewState()
		return second(full.Update(1, time.Now(), func(f crdt.Fields) error { return k.fill(f, n) }))
	})
	if err != nil {
		return err
	}
	b.typeTask("peerd", k.name+": write", nodeTask{Us: us / float64(n)})
	var bytes []byte
	us, err = timed(func() (err error) { bytes, err = full.MarshalBinary(); return err })
	if err != nil {
		return err
	}
	b.typeTask("peerd", k.name+": encode all", nodeTask{us / float64(n), float64(len(bytes)) / float64(n), 0})
	us, err = timed(func() error { return mergeInto(crdt.NewState(), bytes) })
	if err != nil {
		return err
	}
	b.typeTask("peerd", k.name+": merge all", nodeTask{Us: us / float64(n)})
	return b.ownDeltas(k, full, n, deltas(n))
}

// mergeInto does what a receiver does.
func mergeInto(s *crdt.State, bytes []byte) error {
	received := crdt.NewState()
	if err := received.UnmarshalBinary(bytes); err != nil {
		return err
	}
	s.Merge(received)
	return nil
}

func (b *bench) ownDeltas(k kind, full *crdt.State, n, deltaCount int) error {
	base, sum := full.Clone(), 0
	var all [][]byte
	for i := range deltaCount {
		delta, err := full.Update(1, time.Now(), func(f crdt.Fields) error { return k.write(f, n+i) })
		if err != nil {
			return err
		}
		bytes, err := delta.MarshalBinary()
		if err != nil {
			return err
		}
		all, sum = append(all, bytes), sum+len(bytes)
	}
	var copies []*crdt.State
	for range 5 {
		copies = append(copies, base.Clone())
	}
	us, err := timed(func() error {
		s := copies[0]
		copies = copies[1:]
		for _, delta := range all {
			if err := mergeInto(s, delta); err != nil {
				return err
			}
		}
		return nil
	})
	b.typeTask("peerd", k.name+": merge a delta", nodeTask{us / float64(deltaCount), float64(sum) / float64(deltaCount), 0})
	return err
}

func (b *bench) typeCharts() {
	tasks := []string{"map: merge all", "nested map: merge all", "map: merge a delta", "nested map: merge a delta"}
	chart := report.Chart{Name: "merge", Title: "Merging, µs an element", YLabel: "µs", Names: tasks}
	for _, s := range b.Systems {
		line := report.Line{System: s.Name}
		for _, task := range tasks {
			line.Bar(b.Spread(task, s.Name))
		}
		chart.Lines = append(chart.Lines, line)
	}
	b.Charts = append(b.Charts, chart)
}
