package backup

import (
	"crypto/sha256"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
)

// Header says what a backup is.
type Header struct {
	Made    time.Time          // to the millisecond
	Name    string             // of the peer that made it, for people
	Space   string             // that it holds
	Replica crdt.ReplicaID     // under which that peer wrote; zero if it had not written yet
	Seen    crdt.VersionVector // the context of the moment
	Keys    uint64             // that exist
	Cells   uint64             // in the store
	Records uint64             // about how many follow, for those who show progress
	More    uint64             // backups of other spaces that stand behind this one
}

func (h *Header) encode() []byte {
	name := h.Name[:min(len(h.Name), maxName)]
	return wire.Encode(func(w *wire.Writer) {
		w.Array(9)
		w.Uint(uint64(h.Made.UnixMilli()))
		w.String(name)
		w.String(h.Space)
		w.Uint(uint64(h.Replica))
		dotted.WriteVector(w, h.Seen)
		w.Uint(h.Keys)
		w.Uint(h.Cells)
		w.Uint(h.Records)
		w.Uint(h.More)
	})
}

func decodeHeader(body []byte) (h Header, err error) {
	err = wire.Decode(body, func(r *wire.Reader) {
		fields := r.Array(len(body))
		h.Made = time.UnixMilli(int64(r.Uint()))
		h.Name = r.String(maxName)
		h.Space = r.String(maxName)
		h.Replica = crdt.ReplicaID(r.Uint())
		h.Seen = dotted.ReadVector(r)
		h.Keys, h.Cells, h.Records = r.Uint(), r.Uint(), r.Uint()
		if fields > 8 { // else it is from before there were several
			h.More = r.Uint()
			fields--
		}
		r.Skip(fields - 8)
	})
	return h, err
}

// Totals are what a whole backup holds.
type Totals struct {
	Records uint64
	Bytes   uint64 // of the file before its last frame
	Sum     [sha256.Size]byte
}

func (t *Totals) encode() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		w.Uint(t.Records)
		w.Uint(t.Bytes)
		w.Bytes(t.Sum[:])
	})
}

func decodeTotals(body []byte) (t Totals, err error) {
	err = wire.Decode(body, func(r *wire.Reader) {
		fields := r.Array(len(body))
		t.Records, t.Bytes = r.Uint(), r.Uint()
		if sum := r.Bytes(sha256.Size); len(sum) == sha256.Size {
			t.Sum = [sha256.Size]byte(sum)
		} else {
			r.Fail("a sum of %d bytes", len(sum))
		}
		r.Skip(fields - 3)
	})
	return t, err
}
