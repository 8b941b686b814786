package peer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// DefaultSpace is the name of the space that the methods of Peer are about.
const DefaultSpace = "default"

// directorySpace is the space that every host holds. It has the directory of spaces.
const directorySpace = "peerd"

// MaxSpaceName is how long the name of a space may be, in bytes.
const MaxSpaceName = 64

// ErrSpaceName is wrapped by errors about the name of a space.
var ErrSpaceName = errors.New("the name of a space has 1 to 64 of a-z, 0-9, dot, hyphen and underscore, and begins " +
	"with a letter or a digit")

// CheckSpaceName returns an error that wraps ErrSpaceName unless name can be that of a space.
func CheckSpaceName(name string) error {
	ok := name != "" && len(name) <= MaxSpaceName
	for i := 0; i < len(name) && ok; i++ {
		c := name[i]
		alone := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		ok = alone || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if ok {
		return nil
	}
	return fmt.Errorf("%w: not %.80q", ErrSpaceName, name)
}

// held returns the spaces that are open, by name.
func (p *Peer) held() []*space {
	all := *p.spaces.Load()
	out := make([]*space, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

// space returns a space that is open, or nil.
func (p *Peer) space(name string) *space { return (*p.spaces.Load())[name] }

// hold adds a space to those that are open. p.making is held, or the peer is not open yet.
func (p *Peer) hold(s *space) {
	all := maps.Clone(*p.spaces.Load())
	all[s.name] = s
	p.spaces.Store(&all)
}

// release takes a space away from those that are open. p.making is held.
func (p *Peer) release(s *space) {
	all := maps.Clone(*p.spaces.Load())
	delete(all, s.name)
	p.spaces.Store(&all)
}
