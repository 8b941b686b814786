package auth

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// freeFailures is how many wrong passwords in a row cost an address nothing: a typing mistake,
	// or a client that was not told of a new password yet.
	freeFailures = 5
	// firstDelay is the wait after the next one. It doubles with each, up to maxDelay: then an
	// address has some 9,000 guesses a day.
	firstDelay = 250 * time.Millisecond
	maxDelay   = 10 * time.Second
	// forgetAfter is how long a failure counts.
	forgetAfter = 10 * time.Minute
	// maxAddresses bounds the table, some 200 KB. Beyond it the address that failed longest ago is
	// forgotten.
	maxAddresses = 2048
	// networkBits6 is the part of an IPv6 address that counts: the rest is its owner's to choose.
	networkBits6 = 64
)

// delays is who failed, and until when they must wait.
type delays struct {
	now func() time.Time

	mu     sync.Mutex
	failed map[netip.Prefix]failure
}

type failure struct {
	count int
	last  time.Time
	until time.Time
}

// wait returns how long an address must wait before its next attempt is looked at. O(1).
func (d *delays) wait(from netip.Addr) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.failed[network(from)]; ok {
		return f.until.Sub(d.now())
	}
	return 0
}

// fail notes a wrong password. O(1), or O(maxAddresses) once the table is full.
func (d *delays) fail(from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, key := d.now(), network(from)
	f, known := d.failed[key]
	if now.Sub(f.last) > forgetAfter {
		f = failure{}
	}
	if !known && len(d.failed) >= maxAddresses {
		d.makeRoom()
	}
	f.count++
	f.last = now
	if over := f.count - freeFailures; over > 0 {
		f.until = now.Add(min(firstDelay<<min(over-1, 16), maxDelay))
	}
	d.failed[key] = f
}

// makeRoom forgets the address that failed longest ago.
func (d *delays) makeRoom() {
	var oldest netip.Prefix
	for key, f := range d.failed {
		if last, ok := d.failed[oldest]; !ok || f.last.Before(last.last) {
			oldest = key
		}
	}
	delete(d.failed, oldest)
}

// forgive forgets the failures of an address.
func (d *delays) forgive(from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.failed, network(from))
}

// network returns what is taken for one address.
func network(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	bits := from.BitLen()
	if from.Is6() {
		bits = networkBits6
	}
	prefix, _ := from.Prefix(bits) // the zero address has a prefix of its own: the zero one
	return prefix
}
