package badger

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	dgraph "github.com/dgraph-io/badger/v4"
)

// How merges are paced.
const (
	// restShare is for how many times as long as it took to write a table the next one is waited
	// for, while few memtables wait to be merged.
	restShare = 6
	// easy is up to how many of them are few, and urgent from how many on nothing is waited for.
	// Between them waits become shorter.
	easy   = l0Tables
	urgent = l0Stall - 2
)

// pace has Badger write tables one after the other while it merges. By itself it writes five at
// once and more, for seconds: the goroutine that carries transactions out would have its turn among
// theirs, a tenth of its usual rate on two cores. Merges take longer so, and what they take is
// spread over the time in which as much is written again.
type pace struct {
	db    atomic.Pointer[dgraph.DB] // nil until it is open
	ended chan struct{}             // nothing is waited for any more

	mu   sync.Mutex
	next time.Time // when the next table may be begun
}

func newPace() *pace { return &pace{ended: make(chan struct{})} }

// end lets merges go on as fast as they can: the store is closing. It may be called once.
func (p *pace) end() { close(p.ended) }

// said is told what Badger writes to its log, in the goroutine that does. There Badger says of each
// table that it has gone through what is in it, and then begins the next.
func (p *pace) said(format string, args []any) {
	if p == nil || !strings.HasPrefix(format, "[%d] LOG Compact. Added ") || len(args) == 0 {
		return
	}
	took, ok := args[len(args)-1].(time.Duration)
	db := p.db.Load()
	if !ok || db == nil {
		return
	}
	p.wait(took, db.Levels()[0].NumTables)
}

// wait waits until a table may be begun, if the last one took so long and so many memtables wait
// to be merged.
func (p *pace) wait(took time.Duration, tables int) {
	left := min(urgent-tables, urgent-easy)
	if left <= 0 {
		return
	}
	p.mu.Lock()
	now := time.Now()
	begin := p.next
	if begin.Before(now) {
		begin = now
	}
	p.next = begin.Add(took * restShare * time.Duration(left) / (urgent - easy))
	p.mu.Unlock()
	turn := time.NewTimer(begin.Sub(now))
	defer turn.Stop()
	select {
	case <-turn.C:
	case <-p.ended:
	}
}
