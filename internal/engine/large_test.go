package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/peerd/peerd/crdt"
)

// TestWhetherALargeStringExistsIsReadFromItsBeginning and not from all of it, with nothing in
// memory.
func TestWhetherALargeStringExistsIsReadFromItsBeginning(t *testing.T) {
	s := &traffic{disk: newDisk()}
	value := bytes.Repeat([]byte("v"), crdt.MaxValue)
	r, err := openAt(s, Config{NewID: func() crdt.ReplicaID { return 1 }})
	must(t, err)
	g := r.newGroup(time.UnixMilli(1e12))
	must(t, g.update(func(tx *Tx) error { return Fields(tx).String("k").Set(value) }))
	_, err = g.Commit(false)
	must(t, err)
	must(t, r.Save(testStart))
	r.Close()
	r, err = openAt(s, Config{NewID: func() crdt.ReplicaID { return 2 }})
	must(t, err)
	defer r.Close()
	v := r.View()
	defer v.Close()
	s.bytes = 0
	if sums, err := v.Summary("k"); err != nil || !sums.Exists() || s.bytes > 2*maxPiece {
		t.Errorf("it exists: %v (%v), which took %d bytes", sums.Exists(), err, s.bytes)
	}
	if got, ok := Fields(v).String("k").Get(); !ok || !bytes.Equal(got, value) {
		t.Errorf("%d bytes are read of it", len(got))
	}
}

// TestALargePayloadIsInMemoryOnce for the cell, the delta and the log.
func TestALargePayloadIsInMemoryOnce(t *testing.T) {
	r, err := openAt(newDisk(), Config{NewID: func() crdt.ReplicaID { return 1 }})
	must(t, err)
	defer r.Close()
	g := r.newGroup(time.UnixMilli(1e12))
	must(t, g.update(func(tx *Tx) error {
		if err := Fields(tx).String("large").Set(make([]byte, 3<<20)); err != nil {
			return err
		}
		return Fields(tx).String("small").Set([]byte("v"))
	}))
	done, err := g.Commit(false)
	must(t, err)
	d := done.Deltas[0]
	v := r.View()
	defer v.Close()
	c, err := v.Cell(ownString("large"))
	must(t, err)
	payload, encoded := c[0].Payload, d.Encode()
	at := bytes.Index(encoded, payload)
	if at < 0 || &encoded[at] != &payload[0] || &d.Ops[0].Payload[0] != &payload[0] {
		t.Error("memory has it more than once")
	}
}
