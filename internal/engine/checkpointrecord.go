package engine

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// Durable returns up to where the checkpoint in a store says that the log is durable: store/segment wants to know.
func Durable(st Tree) store.Position {
	snap := st.Snapshot()
	defer snap.Close()
	record, ok, err := snap.Get(keyCheckpoint)
	if err != nil || !ok {
		return 0
	}
	bases, err := loadBases(snap)
	if err != nil {
		return 0
	}
	c, err := decodeCheckpoint(record, &bases)
	if err != nil {
		return 0
	}
	return c.next
}

func (c *checkpoint) encode(writeOwn func(*wire.Writer)) []byte {
	return wire.Seal(formatVersion, keyCheckpoint, wire.Encode(func(w *wire.Writer) {
		w.Array(10)
		w.Uint(c.lsn)
		w.Uint(uint64(c.next))
		writeOwn(w)
		delta.WriteContext(w, c.seen, c.heads)
		w.Uint(uint64(c.tables))
		w.Uint(uint64(c.time))
		w.Bool(c.settled)
		antientropy.WriteFingerprint(w, c.root)
		if c.flip == nil {
			w.Bytes(nil)
		} else {
			w.Bytes(wire.Encode(c.flip.write))
		}
		c.log.write(w)
	}))
}

// decodeCheckpoint reads a checkpoint, and its context with the bases that are stored: not those that are newer.
func decodeCheckpoint(record []byte, bases *delta.Bases) (*checkpoint, error) {
	body, err := unseal(keyCheckpoint, record)
	if err != nil {
		return nil, err
	}
	c := &checkpoint{}
	var bad error
	err = wire.Decode(body, func(r *wire.Reader) {
		r.Array(10)
		c.lsn, c.next = r.Uint(), store.Position(r.Uint())
		c.own = readOwn(r)
		c.seen, c.heads = delta.ReadContext(r)
		if c.tables = int(r.Uint()); c.tables > len(bases.Tables()) {
			r.Fail("a context that is read with %d tables of bases, and %d are here", c.tables, len(bases.Tables()))
			return
		}
		c.seen, c.heads = bases.First(c.tables).Expand(c.seen, c.heads)
		c.time = dotted.Time(r.Uint())
		c.settled = r.Bool()
		c.root = antientropy.ReadFingerprint(r)
		if f := r.Bytes(len(body)); len(f) > 0 {
			c.flip = &flip{}
			bad = wire.Decode(f, func(r *wire.Reader) { *c.flip = readFlip(r, len(f)) })
		}
		c.log = readIndex(r, len(body))
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", damaged(keyCheckpoint, err))
	}
	c.log.last, c.log.placed, c.log.next = c.lsn, c.lsn, c.next
	return c, nil
}

func (x *index) write(w *wire.Writer) {
	w.Array(4)
	w.Uint(x.first)
	w.Uint(uint64(x.newest.UnixMilli()))
	w.Array(3 * len(x.marks))
	for _, m := range x.marks {
		w.Uint(m.lsn)
		w.Uint(uint64(m.at))
		w.Uint(uint64(m.time.UnixMilli()))
	}
	ids := slices.Sorted(maps.Keys(x.cover))
	w.Array(2 * len(ids))
	for _, id := range ids {
		w.Uint(uint64(id))
		w.Array(3 * len(x.cover[id]))
		for _, r := range x.cover[id] {
			w.Uint(r.first)
			w.Uint(r.last)
			w.Uint(r.lsn)
		}
	}
}

func readIndex(r *wire.Reader, limit int) index {
	x := newIndex()
	r.Array(4)
	x.first, x.newest = r.Uint(), time.UnixMilli(int64(r.Uint()))
	n := r.Array(limit) / 3
	for i := 0; i < n && r.Err() == nil; i++ {
		x.marks = append(x.marks, mark{r.Uint(), store.Position(r.Uint()), time.UnixMilli(int64(r.Uint()))})
	}
	ids := r.Array(limit) / 2
	for i := 0; i < ids && r.Err() == nil; i++ {
		id := crdt.ReplicaID(r.Uint())
		runs := r.Array(limit) / 3
		for j := 0; j < runs && r.Err() == nil; j++ {
			x.cover[id] = append(x.cover[id], run{r.Uint(), r.Uint(), r.Uint()})
		}
	}
	return x
}
