package engine

import (
	"bytes"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine/health"
	"github.com/peerd/peerd/internal/engine/logindex"
	"github.com/peerd/peerd/internal/golden"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// sample is a stored record of each kind, with the function that reads it.
type sample struct {
	key    []byte
	record []byte
	read   func(key, record []byte) error
}

// cellRecord returns the record of a cell that needs no parts.
func cellRecord(key []byte, a dotted.Address, c dotted.Cell) []byte {
	record, _ := encodeCell(key, a, c, 1)
	return record
}

func samples() map[string]sample {
	dot := crdt.Dot{Replica: 7, Counter: 3}
	address := dotted.KeyAddress("key").Type(crdt.TypeString)
	long := dotted.KeyAddress(strings.Repeat("long", 100)).Type(crdt.TypeString)
	small := dotted.Cell{{Dot: dot, Payload: []byte("\x01payload")}}
	large := dotted.Cell{{Dot: dot, Payload: make([]byte, maxInline+1)}}
	log := logindex.After(0, 0)
	log.Append(2, time.UnixMilli(98))
	log.Cover(7, 1, 9)
	log.Locate(2, time.UnixMilli(98), 300, 400, 1)
	point := checkpoint{reach: reach{3, 400}, seen: crdt.VersionVector{7: 9}, heads: delta.Heads{7: 5}, time: 11, log: log}
	clear := &pendingClear{number: 6, prefix: dotted.KeyAddress("key"), replica: 8, below: 4, seen: &seenSet{number: 5},
		group: 7, counted: true}
	empty := newDisk().Snapshot()
	cell := func(key, record []byte) error { _, _, err := decodeCell(empty, key, record); return err }
	across := map[gossip.NeighbourID]bool{"other": true}
	own := &replica{own: []ownID{{id: 7, across: map[gossip.NeighbourID]uint64{"other": 3}}, {id: 8}}, across: across}
	mark := &rebuild{phase: rebuildFills, health: health.Health{Must: crdt.VersionVector{8: 9}, From: "peer"}}
	replicaWith := func(key, record []byte) *replica {
		st := newDisk()
		b := &store.Batch{}
		b.Set(key, record)
		if err := st.Commit(b, true); err != nil {
			panic(err)
		}
		r := &replica{st: st, log: newLog(0, 0), tree: &antientropy.Tree{}, table: newTable(st, MaxCache), across: across}
		r.opening.finish = func() error { return nil }
		return r
	}
	out := map[string]sample{}
	add := func(name string, key []byte, record []byte, read func(key, record []byte) error) {
		out[name] = sample{key, record, read}
	}
	at := place(prefixCell, address)
	add("cell", at, cellRecord(at, address, small), cell)
	at = place(prefixCell, long)
	add("cell-long", at, cellRecord(at, long, small), cell)
	at = place(prefixCell, address)
	add("cell-large", at, cellRecord(at, address, large), nil)
	at = place(prefixSummary, dotted.KeyAddress("key"))
	summary := dotted.Summary{Visible: dotted.Shapes{{Shape: "s", Count: 300}, {Shape: "v", Count: 1}}, Tallies: 2, Sole: 77}
	readSummary := func(key, record []byte) error {
		_, _, _, err := decodeSummary(key, record)
		return err
	}
	add("summary", at, encodeSummary(at, "key", summary, 0), readSummary)
	add("summary-later", at, encodeSummary(at, "key", summary, 3), readSummary)
	counted := countState{at: address, now: counts{dotted.Count{Sum: dotted.Int128Of(-5), Shares: 2}, 1 << 40}}
	readCount := func(key, record []byte) error {
		_, _, _, err := decodeCount(key, record)
		return err
	}
	add("count", []byte(counted.place()), counted.encode(0), readCount)
	add("count-later", []byte(counted.place()), counted.encode(3), readCount)
	add("checkpoint", keyCheckpoint, point.encode(own.writeOwn), func(_, record []byte) error {
		_, err := decodeCheckpoint(record, &delta.Bases{})
		return err
	})
	add("sums", keySums, summed{3, antientropy.Fingerprint{Hi: 1, Lo: 2}, 7}.encode(), func(key, record []byte) error {
		_, err := loadSummed(replicaWith(key, record).st.Snapshot(), false)
		return err
	})
	tree := &antientropy.Tree{}
	tree.Add(2*antientropy.PageLeaves+3, antientropy.Fingerprint{Hi: 1, Lo: 2})
	add("page", pageKey(2), encodePage(pageKey(2), 3, tree), func(key, record []byte) error {
		_, err := decodePage(key, record)
		return err
	})
	at = numbered(prefixMoved, 4)
	some := []moved{{antientropy.Fingerprint{Hi: 1, Lo: 2}, 515, 1}, {antientropy.Fingerprint{Lo: 3}, 9, 1}}
	add("moved", at, encodeMoved(at, some), func(key, record []byte) error {
		_, _, err := decodeMoved(key, record)
		return err
	})
	at = numbered(prefixClear, 6)
	add("clear", at, encodeClear(at, clear), func(key, record []byte) error {
		_, _, err := decodeClear(key, record)
		return err
	})
	at = numbered(prefixSeen, 5)
	add("seen", at, encodeSeen(at, crdt.VersionVector{7: 9}), func(key, record []byte) error {
		_, err := decodeSeen(key, record, &delta.Bases{})
		return err
	})
	at = numbered(prefixBase, 1)
	table := delta.Table{Dot: dot, Bases: []delta.Base{{Replica: 8, Last: 2, Head: 3}, {Replica: 9, Last: 1 << 40, Head: 5}}}
	add("base", at, encodeTable(at, table), func(key, record []byte) error {
		_, err := decodeTable(key, record)
		return err
	})
	at = stageKey(1, 2)
	add("change", at, sealPiece(at, change{address, small, []crdt.Dot{dot}}.encode(), 0), func(key, record []byte) error {
		piece, _, err := unsealPiece(key, record)
		if err == nil {
			_, err = decodeChange(key, piece)
		}
		return err
	})
	add("rebuild", keyRebuild, mark.encode(own.writeOwn), func(key, record []byte) error {
		return replicaWith(key, record).resumeRebuild()
	})
	return out
}

// TestRecordsAreStoredAsTheyEverWere pins the format of the store: what is written today must be
// read by every later version.
func TestRecordsAreStoredAsTheyEverWere(t *testing.T) {
	for name, s := range samples() {
		pinned(t, name, hex.Dump(s.key)+"\n"+hex.Dump(s.record))
		values := 1
		if name == "base" {
			values = 3 // in place
		}
		if body, err := unseal(s.key, s.record); err != nil || !areValues(body, values) {
			t.Errorf("%s: not as many values as its arrays say (%v)", name, err)
		}
		if s.read == nil {
			continue
		}
		if err := s.read(s.key, s.record); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.read(append(slices.Clone(s.key), 0), s.record); err == nil && name != "checkpoint" &&
			name != "rebuild" {
			t.Errorf("%s: read under another key", name)
		}
	}
}

// areValues reports whether bytes are so many values, for a reader that knows of records nothing but msgpack.
func areValues(data []byte, values int) bool {
	return wire.Decode(data, func(r *wire.Reader) { r.Skip(values) }) == nil
}

// pinned compares what is stored with a golden file.
func pinned(t *testing.T, name, dump string) {
	t.Helper()
	golden.Text(t, name+".golden", strings.TrimSpace(dump)+"\n", "the format changed, which wants a new version")
}

// TestTheLargestContextFitsIntoACheckpoint has as many replicas as a context may have, each with
// its numbers at their longest, also in what is being taken over, and as many runs of dots in the
// log.
func TestTheLargestContextFitsIntoACheckpoint(t *testing.T) {
	c := checkpoint{seen: crdt.VersionVector{}, heads: delta.Heads{}}
	for i := range delta.MaxReplicas {
		id := crdt.ReplicaID(1<<63 + uint64(i))
		c.seen[id], c.heads[id] = 1<<62, 1<<62
	}
	c.flip = &flip{seen: c.seen, heads: c.heads}
	c.log = logindex.After(1<<40, 1<<40)
	for i := range uint64(logindex.MaxRuns) {
		c.log.Append(1<<40+4096*i, time.Time{})
		c.log.Cover(crdt.ReplicaID(1<<63+i%delta.MaxReplicas), 1<<61+2048*i, 1<<61+2048*i)
	}
	if n := len(c.encode((&replica{}).writeOwn)); n > store.MaxValue {
		t.Errorf("it has %d bytes, and the store takes %d", n, store.MaxValue)
	}
}

func TestEveryFlippedBitOfARecordIsNoticed(t *testing.T) {
	for name, s := range samples() {
		for i := 0; i < 8*len(s.record) && s.read != nil; i++ {
			rotten := slices.Clone(s.record)
			rotten[i/8] ^= 1 << (i % 8)
			if s.read(s.key, rotten) == nil {
				t.Fatalf("%s: bit %d", name, i)
			}
		}
	}
}

// FuzzRecords gives each reader a record whose checksum is right and whose body is not its own:
// as a program with a bug, or a later version, could have left it.
func FuzzRecords(f *testing.F) {
	all := samples()
	names := slices.Sorted(maps.Keys(all))
	for i, name := range names {
		body, err := unseal(all[name].key, all[name].record)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(i, body)
	}
	discards, err := unseal(keyRebuild, (&rebuild{phase: rebuildDiscards}).encode((&replica{}).writeOwn))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Index(names, "rebuild"), discards)
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		s := all[names[uint(i)%uint(len(names))]]
		if s.read != nil {
			_ = s.read(s.key, sealBody(s.key, body))
		}
	})
}

func sealBody(key, body []byte) []byte { return wire.Seal(formatVersion, key, body) }

// TestALogRecordIsStoredAsItEverWas pins the format of the log's records, which have no key, and
// whose checksum is the log's.
func TestALogRecordIsStoredAsItEverWas(t *testing.T) {
	d := &delta.Delta{Replica: 7, First: 1, Time: 5, Deps: crdt.VersionVector{8: 2}, Ops: []delta.Op{
		{Kind: delta.OpPut, Address: cellAt("key"), Payload: []byte("\x01x"), Removes: []crdt.Dot{{Replica: 7, Counter: 3}}},
	}}
	root := antientropy.Fingerprint{Hi: 1, Lo: 2}
	derived := []*item{recordItem("k1", body{value: []byte("v")}), recordItem("k2", body{})}
	table := delta.Table{Dot: crdt.Dot{Replica: 8, Counter: 2}, Bases: []delta.Base{{Replica: 9, Last: 1, Head: 5}}}
	taken := flip{session: 3, seen: crdt.VersionVector{8: 2}, heads: delta.Heads{8: 4}, tables: []delta.Table{table},
		upTo: []byte("s1")}
	for name, rec := range map[string]logged{
		"log": {lsn: 4, kind: recordGroup, time: time.UnixMilli(99), deltas: []*delta.Delta{d}, own: 7, root: root,
			settled: true, derived: derived},
		"log-flip": {lsn: 5, kind: recordFlip, time: time.UnixMilli(99), flip: taken},
	} {
		record := encodeLogged(nil, rec)
		pinned(t, name, hex.Dump(record))
		if !areValues(record[logHeader:], 1) {
			t.Errorf("%s: not as many values as its arrays say", name)
		}
		got, err := decodeLogged(record)
		if err != nil || !bytes.Equal(encodeLogged(nil, got), record) {
			t.Errorf("%s: read as %+v (%v)", name, got, err)
		}
		for i := range record {
			_, _ = decodeLogged(record[:i])
		}
	}
}
