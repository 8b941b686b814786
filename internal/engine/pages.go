package engine

import (
	"errors"
	"fmt"

	"github.com/peerd/peerd/antientropy"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// The tree of fingerprints and the number of cells are stored, so that opening need not read
// every cell. What is stored of them is always that of the cells that the store has at that
// moment, whatever moments these are of: checkpoints write some cells that are newer than the
// last one that was completed, and replay changes cells from what it finds. So each batch of a
// checkpoint has a record of what it changes of the sums (g), and a checkpoint ends by writing
// the pages of the tree anew that changed (f), each as of a batch. What is there is the pages,
// and the batches behind each of them.
//
// Nothing of that is believed where there is doubt: if a record is missing or rotten, or the root
// is not what the log says, all cells are read when the store is opened. What nobody doubts is
// checked afterwards: see Engine.checkOpened.

// summed is what a checkpoint notes of the sums.
type summed struct {
	batch uint64                  // the last batch of cells that is in them
	root  antientropy.Fingerprint // of the tree
	cells int
}

func (s summed) encode() []byte {
	return seal(keySums, func(w *wire.Writer) {
		w.Array(3)
		w.Uint(s.batch)
		antientropy.WriteFingerprint(w, s.root)
		w.Uint(uint64(s.cells))
	})
}

// loadSummed reads it. There is none before the first checkpoint.
func loadSummed(snap store.Snapshot, first bool) (s summed, err error) {
	record, ok, err := snap.Get(keySums)
	if err == nil && !ok && !first {
		err = damaged(keySums, errMissing)
	}
	if err != nil || !ok {
		return s, err
	}
	err = decodeRecord(keySums, record, func(r *wire.Reader) {
		r.Array(3)
		s.batch, s.root, s.cells = r.Uint(), antientropy.ReadFingerprint(r), int(r.Uint())
	})
	return s, err
}

// pageRecord is what is stored of a page of the tree.
type pageRecord struct {
	batch  uint64 // the last one that is in it
	leaves [antientropy.PageLeaves]antientropy.Fingerprint
}

func pageKey(page int) []byte { return []byte{prefixPage, byte(page)} }

// encodePage returns the record of a page of a tree.
func encodePage(key []byte, batch uint64, t *antientropy.Tree) []byte {
	return seal(key, func(w *wire.Writer) {
		w.Array(1 + antientropy.PageLeaves)
		w.Uint(batch)
		t.WritePage(w, int(key[1]))
	})
}

func decodePage(key, record []byte) (p pageRecord, err error) {
	err = decodeRecord(key, record, func(r *wire.Reader) {
		if n := r.Array(1 + antientropy.PageLeaves); n != 1+antientropy.PageLeaves || len(key) != 2 {
			r.Fail("a page with %d fields", n)
			return
		}
		p.batch = r.Uint()
		for i := range p.leaves {
			p.leaves[i] = antientropy.ReadFingerprint(r)
		}
	})
	return p, err
}

// encodeMoved returns the record of what a batch changes.
func encodeMoved(key []byte, changes []moved) []byte {
	born := 0
	for _, m := range changes {
		born += int(m.born)
	}
	return seal(key, func(w *wire.Writer) {
		w.Array(2)
		w.Int(int64(born))
		w.Array(2 * len(changes))
		for _, m := range changes {
			w.Uint(uint64(m.leaf))
			antientropy.WriteFingerprint(w, m.sum)
		}
	})
}

func decodeMoved(key, record []byte) (changes []moved, born int, err error) {
	err = decodeRecord(key, record, func(r *wire.Reader) {
		r.Array(2)
		born = int(r.Int())
		n := r.Array(len(record)) / 2
		for i := 0; i < n && r.Err() == nil; i++ {
			leaf := r.Uint()
			if leaf >= antientropy.Leaves {
				r.Fail("the leaf %d", leaf)
			}
			changes = append(changes, moved{leaf: uint16(leaf), sum: antientropy.ReadFingerprint(r)})
		}
	})
	return changes, born, err
}

// movedBytes is about how many bytes a change takes in its record, and that itself.
const movedBytes = 24

// note has the change of a cell written with the batch that has it now.
func (w *treeWriter) note(it *item) {
	if m := it.moved(); it.address() != "" && (m.born != 0 || !m.sum.IsZero()) {
		w.moved = append(w.moved, m)
	}
}

// noted adds the record of what the batch changes to it.
func (w *treeWriter) noted() {
	if len(w.moved) == 0 {
		return
	}
	w.r.batches++
	key := numbered(prefixMoved, w.r.batches)
	w.batch.Set(key, encodeMoved(key, w.moved))
	w.moved = w.moved[:0]
}

// savePages has some pages written that changed since they were written last, within the step
// that began at a count of work: all cells of the checkpoint are in the store.
func (r *replica) savePages(c *saving, began int) {
	batch := &store.Batch{}
	for ; c.page < antientropy.Pages; c.page++ {
		if batch.Len() >= r.perBatch() || r.spentSince(began) {
			break
		}
		if r.paged != nil && c.tree.EqualPage(c.page, r.paged) {
			continue
		}
		last, key := r.work, pageKey(c.page)
		batch.Set(key, encodePage(key, r.batches, c.tree))
		r.spend(workCut + workOf(antientropy.PageLeaves*pagedBytes))
		r.transacted(last)
	}
	if batch.Len() > 0 {
		r.writeBatch(batch, nil)
	}
}

// pagedBytes is about how many bytes a leaf takes in the record of its page.
const pagedBytes = 18

// forgetNumbered deletes records of batches that all pages have, and of what checkpoints wrote
// over that are whole, within a step that began at a count of work. What is left is for others.
func (r *replica) forgetNumbered(b *store.Batch, began int) {
	forget := func(kind byte, forgotten *uint64, covered uint64) {
		for *forgotten < covered && b.Len() < r.perBatch() && !r.spentSince(began) {
			last := r.work
			*forgotten++
			b.Delete(numbered(kind, *forgotten))
			r.spend(workCut)
			r.transacted(last)
		}
	}
	forget(prefixMoved, &r.forgotten, r.covered)
	forget(prefixUndone, &r.undone.forgotten, r.undone.covered)
}

// loadPages reads the tree and the number of cells. If there is a doubt about them all cells are
// read.
func (r *replica) loadPages() error {
	if r.damage != nil {
		return nil
	}
	err := r.readDoubt()
	if err == nil {
		err = r.readPages()
	}
	if !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	r.opening.doubt = err
	r.paged, r.tree, r.cells = nil, &antientropy.Tree{}, 0
	if err := r.numberBatches(); err != nil {
		return err
	}
	v := r.present()
	defer v.Close()
	return v.scanStored("", "", func(a dotted.Address, c dotted.Cell) bool {
		m, _ := r.derives.derive(a, nil, c).moved(share{whole: true})
		r.tree.Add(int(m.leaf), m.sum)
		r.cells += int(m.born)
		return true
	})
}

// numberBatches has batches numbered on behind all that are known, whatever is rotten of their
// records: those that are left would be taken for new ones.
func (r *replica) numberBatches() error {
	snap := r.st.Snapshot()
	defer snap.Close()
	r.batches = 0
	if s, err := loadSummed(snap, true); err == nil {
		r.batches = s.batch
	}
	err := scanRecords(snap, prefixPage, func(key, record []byte) error {
		if p, err := decodePage(key, record); err == nil {
			r.batches = max(r.batches, p.batch)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.forgotten = r.batches
	return scanRecords(snap, prefixMoved, func(key, _ []byte) error {
		n := numberOf(key)
		r.forgotten, r.batches = min(r.forgotten, n-1), max(r.batches, n)
		return nil
	})
}

// readDoubt returns an error that wraps store.ErrCorrupt if the store or the host says that all
// cells are to be read.
func (r *replica) readDoubt() error {
	snap := r.st.Snapshot()
	defer snap.Close()
	_, marked, err := snap.Get(keyDoubt)
	r.opening.marked = marked
	switch {
	case err != nil:
		return err
	case marked:
		return fmt.Errorf("a record was not what was written: %w", store.ErrCorrupt)
	case r.cfg.Doubt:
		return fmt.Errorf("nothing stored is believed: %w", store.ErrCorrupt)
	}
	return nil
}

// Recounted returns why all cells were read when the store was opened; nil if they were not.
func (r *replica) Recounted() error { return r.opening.doubt }

// readPages reads what is stored. The error wraps store.ErrCorrupt if it cannot be what was
// written.
func (r *replica) readPages() error {
	snap := r.st.Snapshot()
	defer snap.Close()
	want, err := loadSummed(snap, r.saved.lsn == 0)
	if err != nil {
		return err
	}
	has := [antientropy.Pages]uint64{} // batches that are in each page
	err = scanRecords(snap, prefixPage, func(key, record []byte) error {
		p, err := decodePage(key, record)
		if err != nil {
			return err
		}
		page := int(key[1])
		has[page] = p.batch
		for i, f := range p.leaves {
			if !f.IsZero() {
				r.tree.Add(page*antientropy.PageLeaves+i, f)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.paged = r.tree.Clone()
	r.batches, r.forgotten = want.batch, want.batch
	err = scanRecords(snap, prefixMoved, func(key, record []byte) error {
		n := numberOf(key)
		if n <= want.batch { // it is in all pages, and the checkpoint left it
			r.forgotten = min(r.forgotten, n-1)
			return nil
		}
		changes, born, err := decodeMoved(key, record)
		if err != nil {
			return err
		}
		if n != r.batches+1 {
			return damaged(key, fmt.Errorf("it follows batch %d", r.batches))
		}
		r.batches = n
		want.cells += born
		for _, m := range changes {
			want.root = want.root.Add(m.sum)
			if n > has[m.leaf/antientropy.PageLeaves] {
				r.tree.Add(int(m.leaf), m.sum)
			}
		}
		return nil
	})
	if err == nil && r.tree.Root() != want.root {
		err = fmt.Errorf("the tree of fingerprints sums to %v, and was %v: %w", r.tree.Root(), want.root, store.ErrCorrupt)
	}
	r.cells = want.cells
	return err
}
