package replica

// keyCounts is what a key adds to the counts of all keys.
type keyCounts struct {
	exists  bool
	tallies int
}

// add adds to one of the sums.
func (s *summaryState) add(x sum, by int) {
	s.dirty = true
	if x.kind == sumTallies {
		s.now.Tallies += by
		return
	}
	if s.now.Visible == nil {
		s.now.Visible = map[string]int{}
	}
	if s.now.Visible[x.shape] += by; s.now.Visible[x.shape] == 0 {
		delete(s.now.Visible, x.shape)
	}
}

// emptied reports whether the group clears everything.
func (g *Group) emptied() bool { return g.clears.era != g.r.clears.era }

// counts returns the number of keys that exist, and of all their tallies. O(keys written by the group).
func (g *Group) counts() (keys, tallies int) {
	if !g.emptied() {
		keys, tallies = g.r.keys, g.r.tallies
	}
	for _, s := range g.sums {
		keys += gain(s.before.exists, s.now.Exists())
		tallies += s.now.Tallies - s.before.tallies
	}
	return keys, tallies
}

// tallied calls fn with each key that has tallies.
func (g *Group) tallied(fn func(key string) bool) error {
	if _, tallies := g.counts(); tallies == 0 {
		return nil
	}
	more := true
	for _, name := range sortedKeys(g.sums) {
		if more && g.sums[name].now.Tallies > 0 {
			more = fn(name)
		}
	}
	if !more || g.emptied() {
		return nil
	}
	return g.view.Tallied(func(key string) bool { return g.sums[key] != nil || fn(key) })
}
