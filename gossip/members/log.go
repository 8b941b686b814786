package members

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	warnEvery = time.Minute // between two warnings of one kind
	maxKinds  = 64          // kinds told apart; the rest counts as one, so that memory is bounded
	maxLine   = 300         // bytes of a line of memberlist's that are logged: it prints metadata
)

// limiter lets one warning of a kind through each warnEvery: what strangers can cause must not fill
// the log.
type limiter struct {
	now  func() time.Time
	mu   sync.Mutex
	last map[string]time.Time
}

func (l *limiter) allow(kind string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.last == nil {
		l.last = map[string]time.Time{}
	}
	if _, ok := l.last[kind]; !ok && len(l.last) >= maxKinds {
		kind = ""
	}
	if last, ok := l.last[kind]; ok && now.Sub(last) < warnEvery {
		return false
	}
	l.last[kind] = now
	return true
}

// journal logs, and takes the lines that memberlist writes for its own log. memberlist's goroutines
// may outlive Close by one probe, so it falls silent then. Safe for many goroutines.
type journal struct {
	to     *slog.Logger
	limit  limiter
	silent atomic.Bool
	seen   sightings
	known  func(addr string) bool // whether a member is, or was, at a gossip address
}

// warn logs at most one warning of a kind (its message) each warnEvery.
func (j *journal) warn(message string, attrs ...any) { j.warnKind(message, message, attrs...) }

func (j *journal) warnKind(kind, message string, attrs ...any) {
	if !j.silent.Load() && j.limit.allow(kind) {
		j.to.Warn(message, attrs...)
	}
}

func (j *journal) debug(message string, attrs ...any) {
	if !j.silent.Load() {
		j.to.Debug(message, attrs...)
	}
}

// Write takes one line of memberlist's log.
func (j *journal) Write(line []byte) (int, error) {
	level, text, _ := strings.Cut(strings.TrimSpace(string(line)), "] ")
	text = strings.TrimPrefix(text, "memberlist: ")
	switch {
	case foreign(text) && sender(text) != "":
		j.seen.note(Sighting{Kind: OtherKeyHere, Addr: j.origin(text)})
		j.warn("a host with another cluster key tried to reach this one: "+
			"give both the same cluster key file, or take this host's address from its list",
			"addr", sender(text))
	case level == "[ERR" || level == "[ERROR":
		j.warnKind(kindOf(text), "memberlist reports an error", "text", cutLine(text))
	default:
		j.debug("memberlist", "text", cutLine(text))
	}
	return len(line), nil
}

// foreign reports whether a line of memberlist's, or an error of its Join, says that the other
// side's messages could not be decrypted: it has another key, or none.
func foreign(text string) bool {
	text = strings.ToLower(text)
	for _, sign := range []string{
		"no installed keys could decrypt",
		"decrypt packet failed",
		"remote state is not encrypted",
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// sender returns the address that memberlist names at the end of a line.
func sender(text string) string {
	_, addr, _ := strings.Cut(text, "from=")
	addr, _, _ = strings.Cut(addr, " ")
	return addr
}

// origin returns from where a line says that something came: of a packet from the gossip address of
// a member that address, and else the host. The port of a stream is another one for each
// connection, and that of a stranger's packets whatever it wants.
func (j *journal) origin(text string) string {
	if addr := sender(text); strings.Contains(strings.ToLower(text), "packet") && j.known(addr) {
		return addr
	}
	return hostOf(sender(text))
}

// kindOf returns what lines of one origin have in common: the words before anything variable.
func kindOf(text string) string {
	if end := strings.IndexAny(text, ":'\"(=0123456789"); end >= 0 {
		return text[:end]
	}
	return cutLine(text)
}

func cutLine(text string) string { return text[:min(len(text), maxLine)] }
