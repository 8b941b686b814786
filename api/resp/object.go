package resp

import (
	"runtime/metrics"

	embedded "github.com/peerd/peerd/peer"
)

// object reports whether the key that the third argument names holds something; if not, it replies
// so.
func (c *call) object() bool {
	if c.tx.Has(c.arg(2)) {
		return true
	}
	c.out.null()
	return false
}

// runObjectEncoding tells how a value is kept: a string as "int" if INCR can add to it, or "raw"; a
// stream as "stream"; everything else as "cells", one for each member or field.
func runObjectEncoding(c *call) error {
	if !c.object() {
		return nil
	}
	key, encoding := c.arg(2), "cells"
	if k := kindOf(c.tx.Types(key).First()); k != nil {
		encoding = k.encoding(c.tx, key)
	}
	c.out.text(encoding)
	return nil
}

func runObjectRefCount(c *call) error {
	if c.object() {
		c.out.integer(1)
	}
	return nil
}

func runObjectFreq(c *call) error {
	if c.object() {
		return replyError("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that " +
			"when switching between policies at runtime LRU and LFU data will take some time to adjust.")
	}
	return nil
}

func runObjectIdleTime(c *call) error {
	if c.object() {
		return replyError("ERR idle time is not tracked: nothing is evicted, so nothing keeps when a key was used")
	}
	return nil
}

// cellCost is about what a cell takes beside its names and value, in bytes.
const cellCost = 48

// runMemoryUsage estimates what a key takes on the disk, in bytes: of a set or hash by some of its
// members, by all with SAMPLES 0.
func runMemoryUsage(c *call) error {
	samples := int64(5)
	for i := 3; i < len(c.args); i += 2 {
		if !c.is(i, "samples") || i+1 == len(c.args) {
			return errSyntax
		}
		var err error
		if samples, err = c.integer(i + 1); err != nil {
			return err
		}
		if samples < 0 {
			return errSyntax
		}
	}
	if !c.object() {
		return nil
	}
	key, size := c.arg(2), int64(0)
	each := int64(len(key) + cellCost)
	for t := range c.tx.Types(key).All() {
		size += each
		if k := kindOf(t); k != nil {
			n, _ := k.count(c.tx, key)
			size += k.sampled(c.tx, key, n, samples) + int64(n-1)*each
		}
	}
	c.out.integer(max(size, each))
	return nil
}

// sampled estimates the bytes of n parts, from the first ones if samples is not 0.
func (k *kind) sampled(tx *embedded.Tx, key string, n int, samples int64) int64 {
	sum, seen := int64(0), int64(0)
	for name, value := range k.parts(tx, key) {
		sum, seen = sum+int64(len(name)+len(value)), seen+1
		if seen == samples {
			break
		}
	}
	if seen == int64(n) || seen == 0 {
		return sum
	}
	return int64(float64(sum) / float64(seen) * float64(n))
}

func runMemoryDoctor(c *call) error {
	c.out.verbatim("There is nothing to advise: values are on the disk, and what a peer holds in memory is bounded by its " +
		"settings. INFO memory tells how much that is.\n")
	return nil
}

func runMemoryMallocStats(c *call) error {
	c.out.text("Stats not supported for the current allocator")
	return nil
}

// runMemoryPurge has nothing to do: the runtime gives back what it does not use.
func runMemoryPurge(c *call) error {
	c.out.status("OK")
	return nil
}

// heapInUse returns how many bytes hold something, and how many the system has given.
func heapInUse() (used, total int64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
	}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64()), int64(samples[1].Value.Uint64())
}

func runMemoryStats(c *call) error {
	used, total := heapInUse()
	c.out.dict(4)
	for _, figure := range []struct {
		name string
		n    int64
	}{
		{"total.allocated", used}, {"allocator.resident", total}, {"clients.normal", c.server.held.Load()},
		{"keys.count", int64(c.tx.Len())},
	} {
		c.out.text(figure.name)
		c.out.integer(figure.n)
	}
	return nil
}

// runRole tells what Redis's tools expect of a server that takes writes. Every peer is one.
func runRole(c *call) error {
	c.out.array(3)
	c.out.text("master")
	c.out.integer(0)
	c.out.array(0)
	return nil
}

func runWhoAmI(c *call) error {
	c.out.text(onlyUser)
	return nil
}

func runUsers(c *call) error {
	c.out.array(1)
	c.out.text(onlyUser)
	return nil
}
