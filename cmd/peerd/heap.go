package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// heapGrowth is by how much the heap grows beyond what is in use before it is collected, in
// percent. Go's 100 would double the cache and what the storage engine works with, in which the
// collector finds no pointers, so that it is soon done.
const heapGrowth = 50

// A heap of which little is in use is let grow to heapRoom, at most by smallGrowth: under load
// the collector would else run ten times a second. That of an idle daemon, with less than
// heapIdle in use, is kept as small as it can be.
const (
	heapRoom    = 128 << 20
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

// followHeap has the heap grow as growthOf says, from each collection to the next.
var followHeap = sync.OnceFunc(func() {
	type cycle struct{ _ *byte } // is found unused by each
	used := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last := heapGrowth
	var ended func(*cycle)
	ended = func(c *cycle) {
		metrics.Read(used)
		if growth := growthOf(used[0].Value.Uint64()); max(growth-last, last-growth) > heapGrowth/8 {
			last = growth
			debug.SetGCPercent(growth)
		}
		runtime.SetFinalizer(c, ended)
	}
	runtime.SetFinalizer(&cycle{}, ended)
})
