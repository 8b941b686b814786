package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/measure"
)

const (
	partMembers  = 5
	partRate     = 50          // operations a second, of each client
	partDeadline = time.Second // of an operation
	partValue    = 64
)

// partedSystem is a system whose members are on hosts that can be cut from each other.
type partedSystem struct {
	name, version, settings string
	sure                    bool // its reads can be linearizable
	open                    func(ctx context.Context, b *bench, net *lab.Network) ([]parted, error)
}

// parted is a client of one member, on its host. Its methods may be called by several goroutines.
type parted interface {
	write(ctx context.Context, key, value string) error
	// read reports whether the member shows a key: if it is asked to be sure, all that was
	// acknowledged anywhere before.
	read(ctx context.Context, key string, sure bool) (bool, error)
	// keys is all that the member shows by itself.
	keys(ctx context.Context) (map[string]bool, error)
	// leads reports whether it is the one that the others follow.
	leads(ctx context.Context) bool
	close()
}

// split is how members are divided. The leader, if there is one, is in the last part.
type split []int

func (s split) String() string {
	var parts []string
	for _, n := range s {
		parts = append(parts, fmt.Sprint(n))
	}
	return strings.Join(parts, "+")
}

var splits = []split{{3, 2}, {2, 2, 1}}

func partition(ctx context.Context, b *bench) error {
	all := []partedSystem{
		{"peerd", b.Version, "daemons with --durability always", false, partPeerd},
		{"etcd", version("go.etcd.io/etcd/server/v3"), "Raft; embedded in a process each, defaults", true, partEtcd},
		{"raft", version("github.com/hashicorp/raft"), "Raft; a map of keys in a process each, " +
			"defaults, raft-wal, members forward to their leader over HTTP as Consul's do over RPC", true, partRaft},
	}
	if err := b.MayIsolate(ctx); err != nil {
		b.Skip("all of it", err)
		return nil
	}
	if err := b.zookeeper(ctx); err != nil {
		b.Skip("zookeeper", err)
	} else {
		all = append(all, partedSystem{"zookeeper", b.zookeeperVersion(ctx), "Zab; a process each, " +
			"defaults", true, partZooKeeper})
	}
	for _, s := range all {
		b.System(s.name, s.version, s.settings, "each write synced before it is acknowledged")
	}
	b.System("quorum", "", "theory: a part with a majority does everything, the others nothing", "")
	lasts := size(b, phases{1500 * time.Millisecond, 5 * time.Second, 2 * time.Second},
		phases{3 * time.Second, time.Minute, 5 * time.Second})
	b.partitionNotes(lasts)
	err := b.inTurn(0, 1, "splits", len(all), func(_, s int) error {
		defer b.End()
		return wrapped(all[s].name, b.partOnce(ctx, all[s], lasts))
	})
	if err != nil {
		return err
	}
	for _, s := range splits {
		for _, n := range s.sizes() {
			b.More(s.inPart(n)+writesDone, "%", "quorum", quorumShare(n))
		}
	}
	sortRows(b.Rows)
	b.partitionCharts(all)
	return nil
}

func (b *bench) partitionNotes(lasts phases) {
	b.Setting("%d members, a network namespace each, with a client beside each that asks its own "+
		"member alone: %d operations a second, an open loop, half of them writes, a quarter "+
		"reads of either kind; an operation that is not answered %v after it was due has failed; "+
		"members drop what comes from the other parts, without a word, for %v, after %v without "+
		"and before %v of healing", partMembers, partRate, partDeadline, lasts.cut, lasts.before, lasts.healed)
	b.Setting("the leader, where there is one, is in the last and smallest part: a majority " +
		"elects another, which a short cut makes weigh more. With the leader in the majority it " +
		"goes on as before.")
	b.Setting("each write is to a key of its own, of %d bytes; a read is of the key that one of "+
		"the clients, wherever it is, was last acknowledged", partValue)
	b.Note("What peerd goes on with is not what the others stop doing: on both sides of a cut it " +
		"acknowledges what the other side does not know of, and merges it afterwards. Here no " +
		"two writes are to one key; what becomes of those is in docs/consistency.md. Who needs " +
		"each reader to see each write cannot have it in a part without a majority, from any " +
		"system.")
	b.Note("Sure reads are linearizable. etcd: its default. raft: the leader's, after it has " +
		"made sure that it leads. ZooKeeper: sync, then a read, as its papers advise; if the " +
		"leader has just been replaced without knowing even that may be old. peerd has none: all " +
		"its reads are local.")
	b.Note("Local reads may be old: etcd's with WithSerializable, raft's of a member's own map, " +
		"ZooKeeper's default, all of peerd's. How many did not show what had been acknowledged " +
		"to some client is in a row of its own: of raft also without a cut, as its followers " +
		"learn with the next message what was committed, and of peerd because it acknowledges " +
		"before others have it. Who acknowledges nothing has nothing to be old. ZooKeeper turns " +
		"clients away where there is no majority, reads as well, unless servers and clients have " +
		"its read-only mode, which this client has not.")
	b.Note("A majority without its leader waits before it elects another: etcd and raft 1 to 2 s " +
		"by default, ZooKeeper until its leader was silent for syncLimit times tickTime, 10 s in " +
		"the configuration that it comes with, which is longer than the cut of --quick.")
	b.Note("etcd's members find each other again when TCP sends anew what was lost, which it does the " +
		"more rarely the longer a cut was: up to as long after it as it lasted. The read timeout of 5 s " +
		"that their streams are meant to have is not in effect in 3.7.3, whose timeout transport sets " +
		"Dial beside a DialContext, which net/http prefers. See etcd's issue 19143.")
	b.Note("Latencies are of writes that succeeded. They have no row where none did. An " +
		"operation counts as before, in, or after the cut if it was due and given up within that " +
		"time, as those between can be either.")
	b.Note("After healing: until all members show by themselves the last write that each client " +
		"was acknowledged before the network was whole again, and until each has acknowledged " +
		"one again. Lost: acknowledged, and missing at some member after all show the same.")
	b.Note("A failed write is one whose client does not know what became of it; it may be there.")
	b.Note("The chart of availability is computed: from what parts of 1, 2, 3 and 5 could do, " +
		"with 4 taken for 3, and from how likely so many members reach each other if each other " +
		"one is reached independently. A short cut makes the time of an election weigh too much " +
		"in it.")
}

// phases is how long they last.
type phases struct{ before, cut, healed time.Duration }

// partOnce starts a cluster, and splits and heals it.
func (b *bench) partOnce(ctx context.Context, s partedSystem, lasts phases) error {
	net, err := b.Network(partMembers)
	if err != nil {
		return err
	}
	b.show(0, s.name+" begins")
	members, err := s.open(ctx, b, net)
	for _, m := range members {
		defer m.close()
	}
	if err != nil {
		return err
	}
	if err := warm(ctx, members); err != nil {
		return err
	}
	for _, sp := range splits {
		b.show(0, fmt.Sprintf("%s, %v", s.name, sp))
		c := &cutting{net: net, members: members, of: sp, sure: s.sure, phases: lasts}
		if err := c.run(ctx, b, s.name); err != nil {
			return fmt.Errorf("%v: %w", sp, err)
		}
	}
	return nil
}

// warm waits until each member takes a write, and shows those of the others.
func warm(ctx context.Context, members []parted) error {
	for i := range members {
		key := warmKey(i)
		wrote := false
		shown := make([]bool, len(members))
		err := lab.Await(ctx, 2*lab.Patience, "all members serve", func() bool {
			limited, stop := context.WithTimeout(ctx, partDeadline)
			defer stop()
			wrote = wrote || members[i].write(limited, key, "") == nil
			for j, m := range members {
				if wrote && !shown[j] {
					shown[j], _ = m.read(limited, key, false) // asked again
				}
			}
			return !slices.Contains(shown, false)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// warmKey is what a member writes before all others.
func warmKey(member int) string { return fmt.Sprint("warm", member) }

// cutting is one split of a running cluster, under load.
type cutting struct {
	phases

	net     *lab.Network
	members []parted
	of      split
	sure    bool
	parts   [][]int // members' numbers

	mu   sync.Mutex
	ops  []partOp
	last []string // of each client, what it was acknowledged last
	when struct{ began, cut, isCut, heals, healed, ended time.Time }
}

// partKind is what an operation does.
type partKind int

const (
	writing partKind = iota
	sureReading
	localReading
)

// partOp is an operation that a client began.
type partOp struct {
	client int
	kind   partKind
	key    string
	at     time.Time // when it was due
	took   time.Duration
	done   bool
	old    bool // it was read, and not shown
}

// run has clients work, cuts, heals, and records what became of it.
func (c *cutting) run(ctx context.Context, b *bench, system string) error {
	c.divide(ctx)
	working, stop := context.WithCancel(ctx)
	defer stop()
	for i := range c.members {
		c.last = append(c.last, warmKey(i))
	}
	c.when.began = time.Now()
	var all sync.WaitGroup
	for i := range c.members {
		all.Go(func() { c.load(working, i) })
	}
	defer all.Wait()
	defer stop()
	if err := lab.Pause(ctx, c.before); err != nil {
		return err
	}
	c.when.cut = time.Now()
	if err := c.net.Split(c.parts...); err != nil {
		return err
	}
	c.when.isCut = time.Now()
	if err := lab.Pause(ctx, c.cut); err != nil {
		return err
	}
	c.when.heals = time.Now()
	if err := c.net.Heal(); err != nil {
		return err
	}
	c.when.healed = time.Now()
	if err := c.recovers(ctx, b, system); err != nil {
		return err
	}
	c.when.ended = time.Now()
	stop()
	all.Wait()
	shown, err := c.settled(ctx, 2*lab.Patience)
	if err != nil {
		return err
	}
	c.record(b, system, shown)
	return nil
}

// recovers waits until all members show what was acknowledged, and take writes again, for as long as
// healing is looked at or longer.
func (c *cutting) recovers(ctx context.Context, b *bench, system string) error {
	limit, stop := context.WithTimeout(ctx, size(b, 20*time.Second, 3*time.Minute))
	defer stop()
	for _, until := range []struct {
		what string
		wait func(context.Context) (time.Duration, error)
	}{{allShow, c.agreed}, {allWrite, c.writes}} {
		d, err := until.wait(limit)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			b.Skip(system+", "+c.of.healed()+until.what, errors.New("not within the time for it"))
		default:
			b.Less(c.of.healed()+until.what, "s", system, d.Seconds())
		}
	}
	return lab.Pause(ctx, time.Until(c.when.healed.Add(c.healed)))
}

// divide chooses who is in which part.
func (c *cutting) divide(ctx context.Context) {
	limited, stop := context.WithTimeout(ctx, partDeadline)
	defer stop()
	var order []int
	leader := -1
	for i, m := range c.members {
		if leader < 0 && m.leads(limited) {
			leader = i
		} else {
			order = append(order, i)
		}
	}
	if leader >= 0 {
		order = append(order, leader)
	}
	for _, n := range c.of {
		c.parts = append(c.parts, order[:n:n])
		order = order[n:]
	}
}

// load is one client's, until ctx ends.
func (c *cutting) load(ctx context.Context, client int) {
	do := func(limited context.Context, _, n int) error {
		due, _ := limited.Deadline()
		op := partOp{client: client, at: due.Add(-partDeadline), key: fmt.Sprintf("%d-%v-%d", client, c.of, n)}
		if n%2 == 1 {
			op.kind, op.key = localReading, c.lastOf(n/4%len(c.members))
			if c.sure && n%4 == 1 {
				op.kind = sureReading
			}
		}
		err := c.try(limited, &op)
		if op.took, op.done = time.Since(op.at), err == nil; op.done || ctx.Err() == nil {
			c.note(op)
		}
		return err
	}
	_, _ = measure.Open{Rate: partRate, For: time.Hour, Clients: 2 * partRate,
		Deadline: partDeadline, Do: do}.Run(ctx) // what it counts, do has noted
}

// try does an operation.
func (c *cutting) try(ctx context.Context, op *partOp) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if op.kind == writing {
		return c.members[op.client].write(ctx, op.key, strings.Repeat("v", partValue))
	}
	shown, err := c.members[op.client].read(ctx, op.key, op.kind == sureReading)
	op.old = !shown
	return err
}

// lastOf returns the key that a client was acknowledged last, or one that is there.
func (c *cutting) lastOf(client int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[client]
}

func (c *cutting) note(op partOp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, op)
	if op.kind == writing && op.done {
		c.last[op.client] = op.key
	}
}

// agreed waits until all members show what each client was acknowledged last before the network was
// healed, and returns how long that took.
func (c *cutting) agreed(ctx context.Context) (time.Duration, error) {
	type wanted struct {
		member parted
		key    string
	}
	var missing []wanted
	for client := range c.members {
		key := c.lastOf(client)
		for _, m := range c.members {
			missing = append(missing, wanted{m, key})
		}
	}
	err := lab.Await(ctx, 3*lab.Patience, "all members show what was acknowledged", func() bool {
		limited, stop := context.WithTimeout(ctx, partDeadline)
		defer stop()
		missing = slices.DeleteFunc(missing, func(w wanted) bool {
			shown, err := w.member.read(limited, w.key, false)
			return err == nil && shown
		})
		return len(missing) == 0
	})
	return time.Since(c.when.healed), err
}

// writes waits until each client was acknowledged a write that was due after healing, and returns
// how long that took.
func (c *cutting) writes(ctx context.Context) (last time.Duration, err error) {
	err = lab.Await(ctx, 3*lab.Patience, "all members take writes", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		last = 0
		for client := range c.members {
			d, ok := resumed(c.ops, client, c.when.healed, time.Now())
			if !ok {
				return false
			}
			last = max(last, d)
		}
		return true
	})
	return last, err
}

// settled waits until all members show the same, and returns what each does.
func (c *cutting) settled(ctx context.Context, limit time.Duration) (shown []map[string]bool, err error) {
	err = lab.Await(ctx, limit, "all members show the same", func() bool {
		limited, stop := context.WithTimeout(ctx, 10*time.Second)
		defer stop()
		shown = nil
		for i, m := range c.members {
			keys, err := m.keys(limited)
			if err != nil || i > 0 && !maps.Equal(keys, shown[0]) {
				return false
			}
			shown = append(shown, keys)
		}
		return true
	})
	return shown, err
}
