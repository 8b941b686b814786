package badger

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/store"
)

// Whatever is born is looked up first, and is not there: in each memtable, and in up to 24 tables of the first level. A
// presence knows without them that a key is certainly absent.
//
// # Which snapshots it is for
//
// A filter is whole if it has each key that a snapshot can see which was opened while it is the current one: keys are
// added before they are committed, and stay. One that was built anew lacks what was deleted before, which older
// snapshots see. They keep the filter that was current when they were opened.
//
// # Building
//
// A store that is empty when it is opened has a whole filter. Another gets one when enough was looked for in vain, by
// going through its keys, in pieces, while what is written meanwhile is added. A key of the store at the end was written
// since the beginning, or was there all the time and so in its piece, whichever transaction that was read in.
//
// # Rebuilding
//
// A filter keeps what was deleted, claims some keys that it has not, and more so with each layer. It is built anew when
// as many look-ups were in vain as there are keys in it, and these are a share of those that it answered; or when it has
// to grow and half of it was deleted.
type presenceLimits struct {
	after int64 // how many Gets must have found nothing before a filter is built
	bytes int   // that the filters of a store may take: beyond it there are none until the store is opened again
	first int   // bytes of an empty filter's first layer
	piece int   // keys that are read in one transaction while a filter is built
	rest  int   // how many times as long as a piece takes nothing is done after it
}

// usualLimits has room for some 50 million keys, and a first layer for 200,000; a piece is little
// work.
var usualLimits = presenceLimits{after: 20_000, bytes: 64 << 20, first: 256 << 10, piece: 1024, rest: 4}

const (
	// poorShare is what part of the Gets that find nothing may pass a filter that is not built anew.
	poorShare = 16
	// addAtOnce is how many keys of a piece are added while commits wait.
	addAtOnce = 512
)

// What a presence's builder does.
const (
	builderIdle = iota
	builderBuilds
	builderGaveUp
)

// presence says which keys are certainly not in a store.
type presence struct {
	seed maphash.Seed

	whole   atomic.Pointer[filter] // nil: nothing is known. Whoever holds the store's mu adds to it
	missed  atomic.Int64           // Gets that found nothing, since it was last looked at them
	skipped atomic.Int64           // Gets that a filter answered, since then
	builder atomic.Int32

	building *filter // gets what is written too; guarded by the store's mu

	limits  presenceLimits
	opening func() // of tests: called while a snapshot is opened
	closing chan struct{}
	builds  sync.WaitGroup
}

func (p *presence) open(empty bool, limits presenceLimits) {
	p.seed, p.limits, p.closing = maphash.MakeSeed(), limits, make(chan struct{})
	if empty {
		p.whole.Store(&filter{})
	}
}

// close ends a build. No call may be under way.
func (p *presence) close() {
	close(p.closing)
	p.builds.Wait()
}

func (p *presence) hash(key []byte) uint64 { return maphash.Bytes(p.seed, key) }

// absent reports whether a filter knows that nothing is at a key. Without one it knows nothing.
func (p *presence) absent(f *filter, key []byte) bool {
	if f == nil || f.has(p.hash(key)) {
		return false
	}
	p.skipped.Add(1)
	return true
}

// missedOne notes that a Get went to Badger and found nothing, and has a filter built when that is worth it.
func (s *Store) missedOne() {
	p := &s.presence
	n := p.missed.Add(1)
	if n < p.limits.after || p.builder.Load() != builderIdle {
		return
	}
	if p.whole.Load() == nil {
		s.build()
		return
	}
	if !s.mu.TryLock() {
		return // A Get does not wait for commits: the next one in vain looks again.
	}
	defer s.mu.Unlock()
	f := p.whole.Load()
	if f != nil && n < p.limits.after+int64(f.keys) {
		return
	}
	if poor := n*poorShare > n+p.skipped.Load(); f == nil || poor {
		s.build()
	}
	p.missed.Store(0)
	p.skipped.Store(0)
}

// written notes the keys of a batch that is about to be committed. The caller holds s.mu.
func (s *Store) written(b *store.Batch) {
	p := &s.presence
	if p.whole.Load() == nil && p.building == nil {
		return
	}
	for _, op := range b.Ops {
		hash := p.hash(op.Key)
		if op.Delete {
			if f := p.whole.Load(); f != nil && f.has(hash) {
				f.gone++
			}
			continue
		}
		s.add(p.whole.Load(), hash)
		s.add(p.building, hash)
	}
}

// add adds a hash to one of the filters, if there is that one. The caller holds s.mu.
func (s *Store) add(f *filter, hash uint64) {
	if f == nil || f.has(hash) {
		return
	}
	if f.full() && !s.grow(f) {
		return
	}
	f.add(hash)
}

// grow adds a layer to a filter, or drops it and returns false, because there is no room for it or it is to be built
// anew. The caller holds s.mu.
func (s *Store) grow(f *filter) bool {
	p := &s.presence
	size := p.layerOf(f)
	if f == p.building {
		if size == 0 && p.whole.Load() != nil { // which is the poorer one
			p.whole.Store(nil)
			size = p.layerOf(f)
		}
		if size == 0 {
			p.building = nil
			return false
		}
	} else {
		stale := f.gone*2 > f.keys && f.keys > 0
		if stale && p.builder.Load() == builderIdle {
			s.build()
		}
		if size == 0 {
			p.whole.Store(nil)
			p.builder.CompareAndSwap(builderIdle, builderGaveUp)
			return false
		}
	}
	f.grow(size)
	return true
}

// layerOf returns how many bytes the next layer of a filter has; 0 if there is no room for a useful one.
func (p *presence) layerOf(f *filter) int {
	held := 0
	for _, other := range []*filter{p.whole.Load(), p.building} {
		if other != nil {
			held += other.bytes
		}
	}
	size := min(max(p.limits.first, 2*f.bytes), p.limits.bytes-held)
	if size < blockBytes || size < f.bytes/4 {
		return 0
	}
	return size
}

// build begins to build a filter, unless one is being built, or none ever again.
func (s *Store) build() {
	if s.presence.builder.CompareAndSwap(builderIdle, builderBuilds) {
		s.presence.builds.Go(s.runBuild)
	}
}

func (s *Store) runBuild() {
	p := &s.presence
	s.mu.Lock()
	f := &filter{}
	expected := s.expectedKeys()
	if old := p.whole.Load(); old != nil {
		expected = max(0, old.keys-old.gone)
		if old.bytes > p.limits.bytes/2 {
			p.whole.Store(nil)
		}
	}
	p.building = f
	if size := min(expected*bitsPerKey/8*3/2, p.limits.bytes/2); size > p.limits.first {
		f.grow(size)
	}
	s.mu.Unlock()

	whole := s.addAll(f)
	s.letGo(true) // of the tables, all of which were read

	s.mu.Lock()
	defer s.mu.Unlock()
	if p.building != f || !whole {
		p.building = nil
		p.builder.Store(builderGaveUp)
		return
	}
	p.building = nil
	p.whole.Store(f)
	p.missed.Store(0)
	p.skipped.Store(0)
	p.builder.Store(builderIdle)
}

// expectedKeys returns how many keys the tables have, with what was deleted or written over.
func (s *Store) expectedKeys() (n int) {
	for _, t := range s.db.Tables() {
		n += int(t.KeyCount)
	}
	return n
}

// addAll adds all keys of the store to the filter that is being built, and returns false if that was ended before.
func (s *Store) addAll(f *filter) bool {
	rest := time.NewTimer(0)
	defer rest.Stop()
	var hashes []uint64
	for next := []byte{}; next != nil; {
		select {
		case <-s.presence.closing:
			return false
		case <-rest.C:
		}
		began := time.Now()
		var err error
		if hashes, next, err = s.readPiece(next, hashes[:0]); err != nil {
			return false
		}
		if !s.addPiece(f, hashes) {
			return false
		}
		rest.Reset(time.Duration(s.presence.limits.rest) * time.Since(began))
	}
	return true
}

// readPiece appends the hashes of the next keys from one on, and returns the one behind them; nil if there is none.
func (s *Store) readPiece(from []byte, hashes []uint64) (all []uint64, next []byte, err error) {
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	c := newCursor(txn, prefixData, from, nil)
	defer c.close()
	for {
		key, ok, err := c.next()
		if err != nil || !ok {
			return hashes, nil, err
		}
		if len(hashes) == s.presence.limits.piece {
			return hashes, append([]byte{}, key...), nil
		}
		hashes = append(hashes, s.presence.hash(key))
	}
}

// addPiece adds hashes to the filter that is being built, and returns false if it was dropped.
func (s *Store) addPiece(f *filter, hashes []uint64) bool {
	for len(hashes) > 0 {
		n := min(addAtOnce, len(hashes))
		s.mu.Lock()
		for _, hash := range hashes[:n] {
			if s.presence.building == f {
				s.add(f, hash)
			}
		}
		dropped := s.presence.building != f
		s.mu.Unlock()
		if dropped {
			return false
		}
		hashes = hashes[n:]
	}
	return true
}
