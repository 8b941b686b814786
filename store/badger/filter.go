package badger

import (
	"math/bits"
	"sync/atomic"
)

// block is a cache line of a filter: a key sets one bit in each of its words (F. Putze and others, Cache-, hash- and
// space-efficient Bloom filters, 2007; the split into words is that of Apache Parquet's).
type block [8]uint64

const (
	blockBytes = 64
	bitsPerKey = 10 // then a layer claims one in a hundred keys that it has not
	wordBits   = 6  // of a hash, for each word
)

// layer is a Bloom filter of a fixed size. One goroutine at a time adds to it, while many ask.
type layer struct {
	blocks []block
	keys   int // that were added
	room   int // for so many
}

func newLayer(bytes int) *layer {
	n := max(1, bytes/blockBytes)
	return &layer{blocks: make([]block, n), room: n * blockBytes * 8 / bitsPerKey}
}

// at returns the block of a hash: its upper bits say which, and the lower ones which bits in it.
func (l *layer) at(hash uint64) *block {
	i, _ := bits.Mul64(hash, uint64(len(l.blocks)))
	return &l.blocks[i]
}

func (l *layer) has(hash uint64) bool {
	b := l.at(hash)
	for i := range b {
		if atomic.LoadUint64(&b[i])>>(hash&(1<<wordBits-1))&1 == 0 {
			return false
		}
		hash >>= wordBits
	}
	return true
}

func (l *layer) add(hash uint64) {
	b := l.at(hash)
	for i := range b {
		atomic.OrUint64(&b[i], 1<<(hash&(1<<wordBits-1)))
		hash >>= wordBits
	}
	l.keys++
}

// filter is a set of hashes that grows by layers, each twice as large as those before it together, and never denies what
// it has. The zero filter is empty. One goroutine at a time adds to it, while many ask.
type filter struct {
	layers atomic.Pointer[[]*layer] // the newest first, which is the largest
	keys   int                      // that were added, without those that it claimed to have
	gone   int                      // of them, deleted since; one may count more than once
	bytes  int
}

func (f *filter) has(hash uint64) bool {
	layers := f.layers.Load()
	if layers == nil {
		return false
	}
	for _, l := range *layers {
		if l.has(hash) {
			return true
		}
	}
	return false
}

// full reports whether the next hash needs another layer.
func (f *filter) full() bool {
	layers := f.layers.Load()
	return layers == nil || (*layers)[0].keys >= (*layers)[0].room
}

// grow adds a layer.
func (f *filter) grow(bytes int) {
	layers := []*layer{newLayer(bytes)}
	if old := f.layers.Load(); old != nil {
		layers = append(layers, *old...)
	}
	f.layers.Store(&layers)
	f.bytes += bytes
}

// add adds a hash that the filter does not have, and is not full for.
func (f *filter) add(hash uint64) {
	(*f.layers.Load())[0].add(hash)
	f.keys++
}
