package hot

// index finds values by the hashes of their keys, for the owner alone, with one miss of the
// processor's caches as a rule. The zero value of V is none. It hashes extendibly (Fagin et al.,
// TODS 1979): a directory has segments by the first bits of a hash, and one that is full is split
// in two, so that nobody waits for more than that. In a segment a value stands where the last bits
// of its hash say, or behind, before the next gap.
//
// It does not shrink: it takes some 30 bytes for each of the most that were in it, and 45 where
// segments have just been split.
type index[V comparable] struct {
	segments []*segment[V] // by the first bits of the hash; none at first
	bits     uint8         // how many these are
	len      int
}

const (
	segmentPlaces = 512
	segmentFull   = segmentPlaces / 4 * 3
)

type segment[V comparable] struct {
	bits   uint8 // of the hashes, that are the same for all in it
	len    int
	places [segmentPlaces]indexed[V]
}

// indexed is a value at its place.
type indexed[V comparable] struct {
	hash  uint64
	value V
}

func (x *index[V]) segment(hash uint64) *segment[V] { return x.segments[hash>>(64-x.bits)] }

// find returns the value with a hash of which is says that it is the one; none if there is none.
func (x *index[V]) find(hash uint64, is func(V) bool) V {
	var none V
	if len(x.segments) == 0 {
		return none
	}
	s := x.segment(hash)
	for i := hash % segmentPlaces; ; i = (i + 1) % segmentPlaces {
		at := &s.places[i]
		if at.value == none || at.hash == hash && is(at.value) {
			return at.value
		}
	}
}

// put puts a value in place of another, or where there is none.
func (x *index[V]) put(hash uint64, value, was V) {
	var none V
	if len(x.segments) == 0 {
		x.segments = []*segment[V]{{}}
	}
	s := x.segment(hash)
	for ; was == none && s.len == segmentFull; s = x.segment(hash) {
		x.split(hash)
	}
	if s.put(hash, value, was) {
		x.len++
	}
}

// put reports whether there is one more then.
func (s *segment[V]) put(hash uint64, value, was V) (more bool) {
	var none V
	i := hash % segmentPlaces
	for s.places[i].value != was && s.places[i].value != none {
		i = (i + 1) % segmentPlaces
	}
	if more = s.places[i].value == none; more {
		s.len++
	}
	s.places[i] = indexed[V]{hash, value}
	return more
}

// split makes two of a segment. Hashes of which more have the same first bits than fit into one do
// not come: nobody knows the seed.
func (x *index[V]) split(hash uint64) {
	var none V
	s := x.segment(hash)
	if s.bits == x.bits {
		twice := make([]*segment[V], 0, 2*len(x.segments))
		for _, s := range x.segments {
			twice = append(twice, s, s)
		}
		x.segments, x.bits = twice, x.bits+1
	}
	halves := [2]*segment[V]{{bits: s.bits + 1}, {bits: s.bits + 1}}
	for _, p := range s.places {
		if p.value != none {
			halves[p.hash>>(63-s.bits)&1].put(p.hash, p.value, none)
		}
	}
	many := 1 << (x.bits - s.bits) // places of the directory have s
	first := int(hash>>(64-x.bits)) &^ (many - 1)
	for i := range many {
		x.segments[first+i] = halves[i*2/many]
	}
}

// remove takes a value out, if it is in. What stands behind it moves up, so that nothing is looked
// for beyond a gap.
func (x *index[V]) remove(hash uint64, value V) {
	var none V
	if len(x.segments) == 0 {
		return
	}
	s := x.segment(hash)
	i := hash % segmentPlaces
	for s.places[i].value != value {
		if s.places[i].value == none {
			return
		}
		i = (i + 1) % segmentPlaces
	}
	for j := i; ; {
		j = (j + 1) % segmentPlaces
		next := s.places[j]
		if next.value == none {
			break
		}
		if (j-next.hash)%segmentPlaces >= (j-i)%segmentPlaces { // it may stand at i
			s.places[i], i = next, j
		}
	}
	s.places[i] = indexed[V]{}
	s.len--
	x.len--
}
