package antientropy

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// Gathering gets what must be at the puller before it can read the source's context: the bases that this has, and the
// puller lacks. Then it asks for the context. The zero value is not valid: see Gather.
type Gathering struct {
	held   crdt.VersionVector
	tables []delta.Table
	bases  int // in them
	asked  Kind
}

// maxGathered bounds the bases that a source sends: an id has several if it went on after one, or if several replicas
// said one at once.
const maxGathered = 16 * delta.MaxReplicas

// Gather begins one. held is the puller's context in its short form.
func Gather(held crdt.VersionVector) *Gathering { return &Gathering{held: held.Clone()} }

// Held returns the puller's context for which it was begun. Once that has lost any of it, what was gathered is not
// enough.
func (g *Gathering) Held() crdt.VersionVector { return g.held }

// Start returns the first request.
func (g *Gathering) Start() Request { return g.ask() }

func (g *Gathering) ask() Request {
	g.asked = KindBases
	return Request{Kind: KindBases, Held: g.held, Skip: len(g.tables)}
}

// Handle takes a response, and returns the next request; done is true if the response was the one with the context. The
// error wraps ErrBadSource.
func (g *Gathering) Handle(resp Response) (next Request, done bool, err error) {
	switch {
	case resp.Kind != g.asked:
		return Request{}, false, bad("kind %#x in response to kind %#x", byte(resp.Kind), byte(g.asked))
	case resp.Kind == KindPin:
		return Request{}, true, nil
	}
	g.tables = append(g.tables, resp.Tables...)
	for _, t := range resp.Tables {
		g.bases += len(t.Bases)
	}
	switch {
	case g.bases > maxGathered:
		return Request{}, false, bad("more than %d bases", maxGathered)
	case resp.More && len(resp.Tables) == 0:
		return Request{}, false, bad("an empty piece of bases, and more to come")
	case resp.More:
		return g.ask(), false, nil
	}
	g.asked = KindPin
	return Request{Kind: KindPin}, false, nil
}

// Tables returns the bases that came, in the source's order.
func (g *Gathering) Tables() []delta.Table { return g.tables }
