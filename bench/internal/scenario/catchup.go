package scenario

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/report"
	"github.com/peerd/peerd/peer"
)

const catchupKey, catchupValue = 16, 64

// noise is a value that can hardly be packed.
func noise() string { return lab.Noise(catchupValue) }

// keyOf is the i-th key, of letters that it shares with no other, lest who sends what keys have in
// common but once sends less than the floor. keyOf in node/rivals.mjs is the same.
func keyOf(i int) string {
	sum := sha256.Sum256(strconv.AppendInt(nil, int64(i), 10))
	return base64.StdEncoding.EncodeToString(sum[:catchupKey/4*3])
}

func catchupCommand(b []byte, i int) []byte { return lab.AppendCommand(b, "SET", keyOf(i), noise()) }

func catchup(ctx context.Context, b *bench) error {
	b.System("peerd", "this tree", "two peers in this process, over loopback", everySecond)
	systems := []func(ctx context.Context, n int) error{
		b.ownCatchup,
	}
	if err := b.Debian(ctx, "redis-server", "redis-server"); err != nil {
		b.Skip("redis", err)
	} else {
		b.System("redis", b.programVersion(ctx, "redis-server", "--version"),
			"a replica, partial resync, backlog of 64 MB", everySecond)
		systems = append(systems, b.redisCatchup)
	}
	if dir := b.node(ctx); dir != "" {
		for _, l := range nodeLibraries {
			systems = append(systems, func(ctx context.Context, n int) error {
				if n > manyWrites {
					return nil
				}
				found, err := b.nodeRun(ctx, dir, "catchup", l.name, n)
				if err == nil {
					b.caughtUp(l.name, n, found["catchup"].Bytes, "ms of computing", found["catchup"].Us/1000)
					b.Less(catchupName(n), "round trips", l.name, found["catchup"].Trips)
				}
				return err
			})
		}
	}
	b.System("payload", "", "keys and values alone", "")
	b.Setting("keys of %d bytes and values of %d, neither of which can be packed, each written in a "+
		"transaction of its own, by one writer, to a copy of 1,000 others", catchupKey, catchupValue)
	b.Note("peerd's bytes are those of its frames, both ways, before encryption and without those that set up the " +
		"connection; redis' are counted in a proxy, with its handshake; the libraries' are the messages that their users would have to " +
		"carry.")
	b.Note("The time of peerd and redis is from the network's return until both hold the same, " +
		"most of which they wait to try again; the libraries only compute.")
	b.Note("peerd's round trips are counted between two engines in memory, as its streams are " +
		"encrypted: those that set up the connection are not among them. redis' are counted in a " +
		"proxy, with its handshake.")
	if !b.quick {
		b.Note("The libraries were measured with %s writes at most.", report.Count(manyWrites))
	}
	writes := size(b, []int{10, 300}, []int{10, 100, 1_000, 10_000, 100_000})
	for i, n := range writes {
		from := float64(i) / float64(len(writes))
		err := b.inTurn(from, from+1/float64(len(writes)), catchupName(n), len(systems), func(_, s int) error {
			return systems[s](ctx, n)
		})
		if err != nil {
			return err
		}
		b.Less(catchupName(n), "bytes a write", "payload", catchupKey+catchupValue)
	}
	chart := report.Chart{Name: "bytes", Title: "A copy that was away returns: bytes a write", XLabel: "writes",
		YLabel: "bytes", LogX: true, LogY: true}
	for _, s := range b.Systems {
		line := report.Line{System: s.Name, Theory: s.Name == "payload"}
		for _, n := range writes {
			line.Point(float64(n), b.Spread(catchupName(n), s.Name))
		}
		chart.Lines = append(chart.Lines, line)
	}
	b.Charts = append(b.Charts, chart)
	return nil
}

// manyWrites are so many that the libraries, which make a transaction of each, take minutes to write them.
const manyWrites = 10_000

func catchupName(n int) string { return report.Count(n) + " writes" }

func (b *bench) caughtUp(system string, n int, bytes float64, unit string, ms float64) {
	b.Less(catchupName(n), "bytes a write", system, bytes/float64(n))
	b.Less(catchupName(n), unit, system, ms)
}

// ownCatchup cuts a peer off, writes to another, and heals the cut.
func (b *bench) ownCatchup(ctx context.Context, n int) error {
	defer b.End()
	both, err := openHosts(ctx, b, 2, peer.Interval)
	defer both.close()
	if err != nil {
		return err
	}
	write := func(from, to int) error {
		for i := from; i < to; i++ {
			err := both[0].Update(ctx, func(tx *peer.Tx) error {
				return tx.String(keyOf(i)).Set([]byte(noise()))
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(0, 1000); err != nil {
		return err
	}
	if err := both.agree(ctx, b.Patience); err != nil {
		return err
	}
	both.split([]int{0}, []int{1})
	if err := write(1000, 1000+n); err != nil {
		return err
	}
	before, err := both[1].Status()
	if err != nil {
		return err
	}
	both.split([]int{0, 1})
	began := time.Now()
	if err := both.agree(ctx, b.Patience); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := both[1].Status()
	bytes := after.BytesSent + after.BytesReceived - before.BytesSent - before.BytesReceived
	b.caughtUp("peerd", n, float64(bytes), "ms until equal", float64(took.Milliseconds()))
	trips, tripsErr := ownTrips(n)
	b.Less(catchupName(n), "round trips", "peerd", float64(trips))
	return errors.Join(err, tripsErr)
}

// replica is a redis-server that follows another through a proxy.
type replica struct {
	primary, addr string
	process       *lab.Process
	proxy         *lab.Proxy
}

func (b *bench) redisReplica(ctx context.Context, primary string) (*replica, error) {
	proxy, err := b.Proxy(primary)
	if err != nil {
		return nil, err
	}
	ip, port, _ := strings.Cut(proxy.Addr, ":")
	p, addr, err := b.Redis(ctx, "--replicaof", ip+" "+port)
	return &replica{primary, addr, p, proxy}, err
}

// equal waits until the replica has as many keys as its primary, over a link that stands.
func (r *replica) equal(ctx context.Context, limit time.Duration) error {
	return lab.Await(ctx, limit, "the replica has everything", func() bool {
		a, errA := lab.Ask(ctx, r.primary, "DBSIZE")
		c, errC := lab.Ask(ctx, r.addr, "DBSIZE")
		info, err := lab.Ask(ctx, r.addr, "INFO", "replication")
		return errA == nil && errC == nil && err == nil && a == c && strings.Contains(info, "master_link_status:up")
	})
}

func (b *bench) redisCatchup(ctx context.Context, n int) error {
	defer b.End()
	_, primary, err := b.Redis(ctx, "--repl-backlog-size", "64mb", "--repl-diskless-sync-delay", "0")
	if err != nil {
		return err
	}
	load := lab.Load{Clients: 1, Pipeline: 1, Commands: 1000, Command: catchupCommand}
	if _, err := load.Run(ctx, primary); err != nil {
		return err
	}
	r, err := b.redisReplica(ctx, primary)
	if r != nil {
		defer r.proxy.Close()
	}
	if err != nil {
		return err
	}
	if err := r.equal(ctx, b.Patience); err != nil {
		return err
	}
	r.proxy.Cut(true)
	load.Commands = n
	load.Command = func(b []byte, i int) []byte { return catchupCommand(b, 1000+i) }
	if _, err := load.Run(ctx, primary); err != nil {
		return err
	}
	bytes, turns := r.proxy.Bytes.Load(), r.proxy.Turns.Load()
	r.proxy.Cut(false)
	began := time.Now()
	if err := r.equal(ctx, b.Patience); err != nil {
		return err
	}
	took := time.Since(began)
	b.caughtUp("redis", n, float64(r.proxy.Bytes.Load()-bytes), "ms until equal", float64(took.Milliseconds()))
	b.Less(catchupName(n), "round trips", "redis", float64((r.proxy.Turns.Load()-turns+1)/2))
	return r.resumed(ctx)
}

// resumed reports an error if the replica was sent everything anew.
func (r *replica) resumed(ctx context.Context) error {
	info, err := lab.Ask(ctx, r.primary, "INFO", "stats")
	if err != nil {
		return err
	}
	for line := range strings.FieldsSeq(info) {
		if value, ok := strings.CutPrefix(line, "sync_partial_ok:"); ok {
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("redis' replica was not resumed where it had been: %s", r.primary)
}
