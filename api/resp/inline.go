package resp

// splitLine cuts a plain line into arguments, as a shell would: at blanks, except within quotes.
// It unescapes in place, for an argument is never longer than what was typed, and appends to spans
// where each argument lies in line. It returns false if quotes are not balanced.
//
//	set greeting "hello\nworld"
//	set greeting 'it\'s me'
func splitLine(line []byte, spans []span) ([]span, bool) {
	s := lineSplitter{line: line}
	for s.skipBlanks() {
		from := s.out
		if !s.word() {
			return spans, false
		}
		spans = append(spans, span{uint32(from), uint32(s.out)})
	}
	return spans, true
}

// lineSplitter reads a line at in and writes its arguments over it at out, which is never ahead.
type lineSplitter struct {
	line    []byte
	in, out int
}

func (s *lineSplitter) skipBlanks() bool {
	for s.in < len(s.line) && isBlank(s.line[s.in]) {
		s.in++
	}
	return s.in < len(s.line)
}

func (s *lineSplitter) put(c byte) {
	s.line[s.out] = c
	s.out++
}

func (s *lineSplitter) word() bool {
	for s.in < len(s.line) {
		c := s.line[s.in]
		s.in++
		switch {
		case isBlank(c) || c == 0:
			return true
		case c == '"' || c == '\'':
			return s.quoted(c)
		default:
			s.put(c)
		}
	}
	return true
}

// quoted reads up to the closing quote, which must end the word.
func (s *lineSplitter) quoted(quote byte) bool {
	for s.in < len(s.line) {
		c := s.line[s.in]
		s.in++
		switch {
		case c == quote:
			return s.in == len(s.line) || isBlank(s.line[s.in])
		case c == '\\' && s.in < len(s.line):
			s.escaped(quote)
		default:
			s.put(c)
		}
	}
	return false
}

// escaped reads what follows a backslash: in double quotes what C knows, in single ones only the
// quote.
func (s *lineSplitter) escaped(quote byte) {
	c := s.line[s.in]
	if quote == '\'' {
		if c == '\'' {
			s.in++
			s.put(c)
		} else {
			s.put('\\')
		}
		return
	}
	if c == 'x' && s.in+2 < len(s.line) {
		high, ok1 := hexDigit(s.line[s.in+1])
		low, ok2 := hexDigit(s.line[s.in+2])
		if ok1 && ok2 {
			s.in += 3
			s.put(high<<4 | low)
			return
		}
	}
	s.in++
	switch c {
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'b':
		c = '\b'
	case 'a':
		c = '\a'
	}
	s.put(c)
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }
