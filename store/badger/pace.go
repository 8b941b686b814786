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
	// for, while there are few memtables that are not merged.
	restShare = 6
	// easy is up to how many of them are few, and urgent from how many on nothing is waited for.
	// Between them waits become shorter.
	easy   = l0Tables
	urgent = l0Stall - 2
	// longest is how long writing a table is taken for at most. Some take longer, and all do while
	// the process or its disk stands still.
	longest = 250 * time.Millisecond
	// lookAgain is after how long one that waits sees whether it has become urgent.
	lookAgain = 100 * time.Millisecond
)

// pace has Badger write tables one after the other while it merges. By itself it writes five at
// once and more, for seconds: the goroutine that carries transactions out would have its turn among
// theirs, a tenth of its usual rate on two cores and less. Merges take longer so, and what they take
// is spread over the time in which as much is written again.
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
	p.wait(took, func() int { return db.Levels()[0].NumTables })
}

// wait waits until a table may be begun, if the last one took so long, while so many memtables are
// not merged.
func (p *pace) wait(took time.Duration, tables func() int) {
	begin := p.turn(min(took, longest), tables())
	for left := time.Until(begin); left > 0 && tables() < urgent; left = time.Until(begin) {
		look := time.NewTimer(min(left, lookAgain))
		select {
		case <-look.C:
		case <-p.ended:
			look.Stop()
			return
		}
	}
}

// turn returns when the next table may be begun, and has the one behind it wait for that.
func (p *pace) turn(took time.Duration, tables int) time.Time {
	share := time.Duration(max(0, urgent-max(tables, easy)))
	p.mu.Lock()
	defer p.mu.Unlock()
	begin := time.Now()
	if begin.Before(p.next) {
		begin = p.next
	}
	p.next = begin.Add(took * restShare * share / (urgent - easy))
	return begin
}
