package engine

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/store"
)

// Salvaged is one operation of a store's own that no other host is known to have.
type Salvaged struct {
	Dot  crdt.Dot
	Time dotted.Time // zero if the log has it no more
	Op   delta.Op
}

// Salvage calls fn with what this store wrote, under its newest ids, and nobody else is known to have, and with what was
// written under an id that forked and the other side is not known to have, whoever wrote it: first what its log
// has, in the order of writing, then what only its cells have. After a fork was noticed that is what the other side is
// not known to have, also where hosts on the side of this store have it. What is not known is told rather than left
// out. It reads a store that nobody has open, whatever its state, and changes nothing. Records that cannot be read are
// passed over; then, when all is told, the error names the first.
func Salvage(st store.Store, log store.Log, fn func(Salvaged) error) error {
	s := salvage{
		snap: st.Snapshot(), log: log, fn: fn, known: map[crdt.ReplicaID]uint64{}, told: map[crdt.Dot]bool{},
		gone: map[crdt.Dot]bool{}, hiding: &clears{},
	}
	defer s.snap.Close()
	s.record(keyRebuild, func(record []byte) error {
		_, own, err := decodeRebuild(record)
		s.owns(own)
		return err
	})
	bases, err := loadBases(s.snap)
	if err != nil {
		s.pass(err)
	}
	s.bases = bases
	s.record(keyCheckpoint, func(record []byte) error {
		c, err := decodeCheckpoint(record, &s.bases)
		if err == nil {
			s.owns(c.own)
		}
		return err
	})
	s.records(func(rec logged) {
		if _, there := s.known[rec.own]; !there && rec.own != 0 {
			s.known[rec.own] = 0
		}
	})
	s.records(func(rec logged) {
		for _, d := range rec.deltas {
			s.delta(d)
		}
	})
	s.cells()
	return errors.Join(s.failed, s.rotten)
}

// salvage is Salvage at work.
type salvage struct {
	snap   store.Snapshot
	log    store.Log
	fn     func(Salvaged) error
	known  map[crdt.ReplicaID]uint64 // of own ids, what others are known to have
	told   map[crdt.Dot]bool
	gone   map[crdt.Dot]bool // that the log says was removed: the tree may still have it
	hiding *clears
	bases  delta.Bases
	failed error // of fn, or of the store
	rotten error // the first record that cannot be read
}

func (s *salvage) owns(own []ownID) {
	for _, o := range own {
		s.known[o.id] = o.known
	}
}

// pass notes that a record cannot be read.
func (s *salvage) pass(err error) {
	if s.rotten == nil {
		s.rotten = err
	}
}

func (s *salvage) record(key []byte, read func(record []byte) error) {
	record, ok, err := s.snap.Get(key)
	if err == nil && ok {
		err = read(record)
	}
	if err != nil {
		s.pass(err)
	}
}

// records calls fn with the records of the log.
func (s *salvage) records(fn func(logged)) {
	r, err := s.log.Read(s.log.First(), make([]byte, readBuffer))
	if err != nil {
		s.failed = cmp.Or(s.failed, err)
		return
	}
	defer r.Close()
	for s.failed == nil {
		got, err := r.Next()
		var rec logged
		if err == nil {
			rec, err = decodeLogged(slices.Clone(got.Data))
		}
		switch {
		case err == nil:
			fn(rec)
		case errors.Is(err, io.EOF):
			return
		case errors.Is(err, store.ErrCorrupt):
			s.pass(err)
		default:
			s.failed = err
		}
	}
}

func (s *salvage) scan(kind byte, fn func(key, value []byte) error) {
	err := s.snap.Scan([]byte{kind}, []byte{kind + 1}, func(key, value []byte) bool {
		if err := fn(slices.Clone(key), slices.Clone(value)); err != nil {
			s.pass(err)
		}
		return s.failed == nil
	})
	if s.failed == nil {
		s.failed = err
	}
}

// tell tells an operation, once, if it is to be told.
func (s *salvage) tell(w Salvaged) {
	known, own := s.known[w.Dot.Replica]
	if !own || w.Dot.Counter <= known || s.told[w.Dot] || s.failed != nil {
		return
	}
	s.told[w.Dot] = true
	s.failed = s.fn(w)
}

func (s *salvage) delta(d *delta.Delta) {
	for _, t := range d.Tables() {
		if !slices.ContainsFunc(s.bases.Tables(), func(have delta.Table) bool { return have.Dot == t.Dot }) {
			s.bases.Hold(t)
		}
	}
	for i, op := range d.Ops {
		for _, dot := range op.Removes {
			if _, own := s.known[dot.Replica]; own {
				s.gone[dot] = true
			}
		}
		switch op.Kind {
		case delta.OpEnd, delta.OpBase:
			continue // it is nothing that anybody would write again
		case delta.OpClear:
			s.hiding.add(&pendingClear{
				prefix: op.Address, replica: d.Replica, below: d.Dot(i).Counter, seen: &seenSet{vector: d.Seen, seen: s.bases.Read(d.Seen)},
			})
		}
		s.tell(Salvaged{Dot: d.Dot(i), Time: d.Time, Op: op})
	}
}

// cells finds what the log has no more: entries that are still there. What a clear hides is not.
func (s *salvage) cells() {
	err := loadClears(s.snap, &s.bases, func(p *pendingClear) { s.hiding.add(p) }, func(uint64) {})
	if err != nil {
		s.pass(err)
	}
	s.scan(prefixCell, func(key, value []byte) error {
		a, c, err := decodeCell(s.snap, key, value)
		for _, e := range s.hiding.hide(a, c) {
			if !s.gone[e.Dot] {
				s.tell(Salvaged{Dot: e.Dot, Op: delta.Op{Kind: delta.OpPut, Address: a, Payload: e.Payload}})
			}
		}
		return err
	})
}
