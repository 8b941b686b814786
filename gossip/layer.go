package gossip

// Layer is what a frame is for, to count what each costs.
type Layer int

const (
	// Push is deltas: new ones as they are written, and older ones for who lacks them.
	Push Layer = iota
	// Vectors is who has what: hellos, news, prunes, acknowledgements and chains of hashes.
	Vectors
	// Digests is the comparison of whole replicas.
	Digests
	// Layers is their number.
	Layers = iota
)

// String returns the name of a layer.
func (l Layer) String() string {
	switch l {
	case Push:
		return "push"
	case Digests:
		return "digest"
	}
	return "vector"
}

// LayerOf returns the layer of a frame.
func LayerOf(frame []byte) Layer {
	if len(frame) == 0 {
		return Vectors
	}
	switch kind(frame[0]) {
	case kindDeltas, kindPart:
		return Push
	case kindDigest:
		return Digests
	}
	return Vectors
}
