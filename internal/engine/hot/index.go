package hot

import "hash/maphash"

// index finds the newest versions of records by their keys, for the owner alone: with one probe, whichever
// place a record is in. It hashes extendibly (Fagin et al., TODS 1979): a directory has segments by
// the first bits of a hash, and one that is full is split in two, so that nobody waits for more than that.
// In a segment a version stands where the last bits of its hash say, or behind, before the next gap.
//
// It does not shrink: it takes up to 30 bytes for each of the most that were in it.
type index struct {
	seed     maphash.Seed
	segments []*segment
	bits     uint8 // of a hash, that tell the segment
}

const (
	segmentPlaces = 512
	segmentFull   = segmentPlaces / 4 * 3
)

type segment struct {
	bits   uint8 // of the hashes, that are the same for all in it
	len    int
	places [segmentPlaces]indexed
}

// indexed is a version at its place; none, if it is nil.
type indexed struct {
	hash uint64
	v    *Version
}

func newIndex() index { return index{seed: maphash.MakeSeed(), segments: []*segment{{}}} }

func (x *index) hash(key string) uint64 { return maphash.String(x.seed, key) }

func (x *index) segment(hash uint64) *segment { return x.segments[hash>>(64-x.bits)] }

// find returns the version at a key; nil if there is none.
func find[K string | []byte](x *index, hash uint64, key K) *Version {
	s := x.segment(hash)
	for i := hash % segmentPlaces; ; i = (i + 1) % segmentPlaces {
		at := &s.places[i]
		if at.v == nil || at.hash == hash && at.v.of.Key() == string(key) {
			return at.v
		}
	}
}

// put puts a version in place of another, or where there is none, if that is nil.
func (x *index) put(hash uint64, v, was *Version) {
	s := x.segment(hash)
	for ; was == nil && s.len == segmentFull; s = x.segment(hash) {
		x.split(hash)
	}
	s.put(hash, v, was)
}

func (s *segment) put(hash uint64, v, was *Version) {
	i := hash % segmentPlaces
	for s.places[i].v != was && s.places[i].v != nil {
		i = (i + 1) % segmentPlaces
	}
	if s.places[i].v == nil {
		s.len++
	}
	s.places[i] = indexed{hash, v}
}

// split makes two of a segment. Hashes of which more have the same first bits than fit into one do not
// come: nobody knows the seed.
func (x *index) split(hash uint64) {
	s := x.segment(hash)
	if s.bits == x.bits {
		twice := make([]*segment, 0, 2*len(x.segments))
		for _, s := range x.segments {
			twice = append(twice, s, s)
		}
		x.segments, x.bits = twice, x.bits+1
	}
	halves := [2]*segment{{bits: s.bits + 1}, {bits: s.bits + 1}}
	for _, p := range s.places {
		if p.v != nil {
			halves[p.hash>>(63-s.bits)&1].put(p.hash, p.v, nil)
		}
	}
	many := 1 << (x.bits - s.bits) // places of the directory have s
	first := int(hash>>(64-x.bits)) &^ (many - 1)
	for i := range many {
		x.segments[first+i] = halves[i*2/many]
	}
}

// remove takes a version out, if it is in. What stands behind it moves up, so that nothing is looked for
// beyond a gap.
func (x *index) remove(hash uint64, v *Version) {
	s := x.segment(hash)
	i := hash % segmentPlaces
	for s.places[i].v != v {
		if s.places[i].v == nil {
			return
		}
		i = (i + 1) % segmentPlaces
	}
	for j := i; ; {
		j = (j + 1) % segmentPlaces
		next := s.places[j]
		if next.v == nil {
			break
		}
		if (j-next.hash)%segmentPlaces >= (j-i)%segmentPlaces { // it may stand at i
			s.places[i], i = next, j
		}
	}
	s.places[i] = indexed{}
	s.len--
}
