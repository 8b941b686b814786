package peer

import (
	"sync/atomic"
	"time"

	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/latency"
)

// Metrics are a peer's figures for monitoring. What counts up does so since the peer was opened.
type Metrics struct {
	Status

	// Transactions are the Updates that succeeded, reading ones included, Failed those that did not.
	// Commits (see Status) are the groups that they, and other peers' deltas, were written in.
	Transactions, Failed uint64
	CommitTimes          Times // of commit groups; with durability Always, the fsync included
	SyncTimes            Times // of the fsyncs of durability Interval

	Traffic []Traffic // bytes of frames, by layer
	Offered Offered   // deltas that other peers sent

	Rebuilds       uint64 // of this peer, after damage
	EntriesAdded   uint64 // by repairs
	EntriesRemoved uint64
	RepairsServed  int  // to other peers, now
	Repairing      bool // this peer, now

	LogRecords uint64
	LogAge     time.Duration // of the oldest record; 0 if it cannot be read
	Stable     uint64        // mutations here that all linked peers are known to have; 0 without one
	Waiting    int           // deltas that overtook what they depend on
	Queue      int           // transactions and frames that wait for the commit loop
	Sweeping   int           // clears whose cells are still removed from the disk
	NotAdopted int           // times of other peers that were too far ahead
}

// Times is how long things took: Buckets[i] is how many took at most Bound(i), and longer than
// Bound(i-1).
type Times struct {
	Buckets [22]uint64
	Total   uint64 // how many there were
	Sum     time.Duration
}

// Bound returns the longest time of bucket i: 16 µs, 32 µs and so on to 16.8 s. The last bucket has
// none: 0.
func (Times) Bound(i int) time.Duration { return latency.Bound(i) }

// Offered counts the deltas that other peers sent, by what became of them.
type Offered struct {
	Applied uint64 // new here
	Copies  uint64 // here already
	Refused uint64 // dropped: a repair brings them, or they are of a fork
}

// Traffic is what one layer of replication cost.
type Traffic struct {
	Layer          string // "push", "vector", "digest" or "repair"
	Sent, Received uint64 // bytes of frames
	FramesSent     uint64
	FramesReceived uint64
}

// repairLayer is beside the layers of gossip: comparing cells, over streams of its own.
const repairLayer = gossip.Layers

// traffic counts frames and their bytes by layer.
type traffic [gossip.Layers + 1]struct{ frames, bytes atomic.Uint64 }

func (t *traffic) add(layer gossip.Layer, bytes int) {
	t[layer].frames.Add(1)
	t[layer].bytes.Add(uint64(bytes))
}

func (t *traffic) total() (bytes uint64) {
	for i := range t {
		bytes += t[i].bytes.Load()
	}
	return bytes
}

// monitored are statistics that Metrics alone shows.
type monitored struct {
	transactions, failed  atomic.Uint64
	commitTimes           latency.Histogram
	syncTimes             latency.Histogram
	rebuilds              atomic.Uint64
	entriesIn, entriesOut atomic.Uint64
}

// transacted counts a transaction.
func (m *monitored) transacted(err error) {
	if err != nil {
		m.failed.Add(1)
		return
	}
	m.transactions.Add(1)
}

// Metrics returns the peer's figures: of all its spaces together, but for what Status says of "default" alone. It costs
// what Status does, and a read of the log.
func (p *Peer) Metrics() (m Metrics, err error) {
	if m.Status, err = p.Status(); err != nil {
		return m, err
	}
	for layer := range gossip.Layer(repairLayer + 1) {
		name := "repair"
		if layer != repairLayer {
			name = layer.String()
		}
		m.Traffic = append(m.Traffic, Traffic{Layer: name})
	}
	for _, s := range p.held() {
		of, err := ask(s, (*loop).figures)
		if err != nil {
			if s.ended.Load() != nil {
				continue
			}
			return m, err
		}
		m.add(of, s)
	}
	if p.net != nil {
		m.RepairsServed = p.net.served()
		m.addTraffic(&p.net.own.sent, &p.net.own.received)
	}
	return m, nil
}

// add adds the figures of a space.
func (m *Metrics) add(of Metrics, s *space) {
	c := &s.counters
	m.Transactions += c.transactions.Load()
	m.Failed += c.failed.Load()
	m.CommitTimes.add(Times(c.commitTimes.Counts()))
	m.SyncTimes.add(Times(c.syncTimes.Counts()))
	m.Rebuilds += c.rebuilds.Load()
	m.EntriesAdded += c.entriesIn.Load()
	m.EntriesRemoved += c.entriesOut.Load()
	m.Queue += len(s.jobs) + len(s.updates)
	m.LogRecords += of.LogRecords
	m.LogAge = max(m.LogAge, of.LogAge)
	m.Waiting += of.Waiting
	m.NotAdopted += of.NotAdopted
	m.Offered.Applied += of.Offered.Applied
	m.Offered.Copies += of.Offered.Copies
	m.Offered.Refused += of.Offered.Refused
	m.Stable += of.Stable
	m.Sweeping += of.Sweeping
	m.Repairing = m.Repairing || of.Repairing
	m.addTraffic(&c.sent, &c.received)
}

func (m *Metrics) addTraffic(sent, received *traffic) {
	for i := range m.Traffic {
		t := &m.Traffic[i]
		t.Sent += sent[i].bytes.Load()
		t.Received += received[i].bytes.Load()
		t.FramesSent += sent[i].frames.Load()
		t.FramesReceived += received[i].frames.Load()
	}
}

func (t *Times) add(o Times) {
	for i, n := range o.Buckets {
		t.Buckets[i] += n
	}
	t.Total += o.Total
	t.Sum += o.Sum
}

// figures returns what the commit loop tells for Metrics.
func (l *loop) figures() Metrics {
	f := l.engine.Figures()
	m := Metrics{LogRecords: f.LogRecords, Waiting: f.Waiting, NotAdopted: f.NotAdopted,
		Offered: Offered(f.Deltas), Stable: l.engine.Stable(), Sweeping: l.engine.Clears(), Repairing: l.engine.Pulling() || l.engine.Repairing()}
	if !f.OldestLogged.IsZero() {
		m.LogAge = max(0, l.p.now().Sub(f.OldestLogged))
	}
	return m
}

// served returns how many repairs are served now.
func (n *network) served() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sources
}
