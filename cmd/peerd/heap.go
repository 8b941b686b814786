package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// heapGrowth is by how much the heap grows beyond what is in use before it is collected, in
// percent. Go's 100 would double the cache and what the storage engine works with, in which the
// collector finds no pointers, so that it is soon done.
const heapGrowth = 50

// A heap of which little is in use is let grow to heapRoom, at most by smallGrowth: under load
// the collector would else run ten times a second. That of an idle daemon, with less than
// heapIdle in use, is kept as small as it can be.
const (
	heapRoom    = 384 << 20
	heapIdle    = 24 << 20
	smallGrowth = 200
)

// growthOf returns by how much a heap grows of which so many bytes are in use.
func growthOf(used uint64) int {
	if used < heapIdle || used >= heapRoom {
		return heapGrowth
	}
	return min(max(int(100*(heapRoom-used)/used), heapGrowth), smallGrowth)
}

// A heap that was not collected for heapCalm, as that of a daemon which rests after a load, gives
// heapSpare and more that nothing uses back to the system, which Go by itself does in minutes. That
// is a collection, so it is done once in heapGiven at most.
const (
	heapCalm  = 20 * time.Second
	heapGiven = time.Minute
	heapSpare = 8 << 20
)

// followHeap has the heap grow as growthOf says, from each collection to the next, and shrink when
// there was none for a while.
var followHeap = sync.OnceFunc(func() {
	type cycle struct{ _ *byte } // is found unused by each
	used := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last := heapGrowth
	calm := time.NewTimer(heapCalm)
	go func() {
		given := time.Now().Add(-heapGiven)
		for range calm.C {
			if wait := heapGiven - time.Since(given); wait > 0 {
				calm.Reset(wait)
			} else if spareHeap() >= heapSpare {
				given = time.Now()
				debug.FreeOSMemory()
			}
		}
	}()
	var ended func(*cycle)
	ended = func(c *cycle) {
		calm.Reset(heapCalm)
		metrics.Read(used)
		if growth := growthOf(used[0].Value.Uint64()); max(growth-last, last-growth) > heapGrowth/8 {
			last = growth
			debug.SetGCPercent(growth)
		}
		runtime.SetFinalizer(c, ended)
	}
	runtime.SetFinalizer(&cycle{}, ended)
})

// spareHeap returns how many bytes the heap has taken from the system beside those that were in use
// when it was last collected.
func spareHeap() uint64 {
	m := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(m)
	held := m[0].Value.Uint64() + m[1].Value.Uint64() + m[2].Value.Uint64()
	return held - min(held, m[3].Value.Uint64())
}
