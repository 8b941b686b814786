package resp

// matchGlob reports whether s matches a pattern as Redis's KEYS knows them: * for any characters,
// ? for one, [abc], [^abc] and [a-z] for one of some, and \ before a character that stands for
// itself. It takes O(len(pattern)+len(s)+MaxMatching) steps: what would take more does not match.
func matchGlob(pattern, s string) bool {
	// After a star it is enough to try again from the last one, one character further on: what an
	// earlier star could take in addition, the last one can take as well.
	star, mark := -1, 0
	p, i, left := 0, 0, MaxMatching
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, i
			p++
			continue
		}
		width, ok := matchOne(pattern[p:], s[i])
		if ok {
			p += width
			i++
			continue
		}
		if left -= p + width - (star + 2); star < 0 || left < 0 { // nothing for the first character
			return false
		}
		mark++
		p, i = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one character against the start of a pattern that is no star. width is how much
// of the pattern stood for it.
func matchOne(pattern string, c byte) (width int, ok bool) {
	if pattern == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '[':
		return matchClass(pattern, c)
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
	}
	return 1, pattern[0] == c
}

// matchClass matches one character against a class. One that does not end is ended by the pattern.
func matchClass(pattern string, c byte) (width int, ok bool) {
	i := 1
	negated := i < len(pattern) && pattern[i] == '^'
	if negated {
		i++
	}
	for i < len(pattern) && pattern[i] != ']' {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			ok = ok || pattern[i+1] == c
			i += 2
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := pattern[i], pattern[i+2]
			ok = ok || min(low, high) <= c && c <= max(low, high)
			i += 3
		default:
			ok = ok || pattern[i] == c
			i++
		}
	}
	return min(i+1, len(pattern)), ok != negated
}

// globPrefix returns what every string that matches the pattern begins with.
func globPrefix(pattern string) string {
	prefix := make([]byte, 0, len(pattern))
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*' || c == '?' || c == '[':
			return string(prefix)
		case c == '\\' && i+1 < len(pattern):
			i++
			prefix = append(prefix, pattern[i])
		default:
			prefix = append(prefix, c)
		}
	}
	return string(prefix)
}
