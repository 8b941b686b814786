package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/peer"
)

// waitPoll is how often the peers are asked.
const waitPoll = 100 * time.Millisecond

func waitCommand() *cobra.Command {
	var g *given
	var addrs []string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until several peers hold the same data",
		Long: "Wait until all the peers named hold the same data: the same context hash and the same\n" +
			"root. If that has not happened at the timeout, the exit status is 1, and the error says\n" +
			"who lacks what.",
		Example: "  peerd wait --http 127.0.0.1:7948 --http 127.0.0.1:8948 --timeout 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(addrs) == 0 {
				return misuse("wait for whom? Name the peers: --http A --http B")
			}
			w, _, err := g.web()
			if err != nil {
				return err
			}
			began := time.Now()
			all, err := w.waitForAgreement(cmd.Context(), addrs, timeout)
			if err != nil {
				return err
			}
			s := all[0].status
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s in agreement after %s: context %s, root %s\n",
				plural(len(all), "peer"), took(time.Since(began)), short(s.ContextHash), short(s.Root))
			return err
		},
	}
	g = flagsOf(cmd, trustFlags...)
	cmd.Flags().StringSliceVar(&addrs, "http", nil, "HTTP `address` of a peer; once for each")
	cmd.Flags().Var(durationValue(&timeout, 30*time.Second, 0), "timeout", "how long to wait")
	return cmd
}

// asked is a peer's answer, or why there is none.
type asked struct {
	addr   string
	status peer.Status
	err    error
}

// String names the peer, by its address as well: labels may repeat.
func (a asked) String() string { return fmt.Sprintf("%s (%s)", a.status.Name, a.addr) }

// waitForAgreement asks all peers until they agree, and returns the answers. The error after the
// timeout says who lacks what.
func (w *web) waitForAgreement(ctx context.Context, addrs []string, timeout time.Duration) ([]asked, error) {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	for {
		all := w.askAll(ctx, addrs)
		problems := differences(all)
		if problems == nil {
			return all, nil
		}
		for _, a := range all {
			if usage := (usageError{}); errors.As(a.err, &usage) {
				return nil, a.err
			}
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return nil, fmt.Errorf("no agreement after %v: %s", timeout,
				strings.Join(problems, "; "))
		case <-ctx.Done():
			return nil, fmt.Errorf("interrupted before agreement: %s", strings.Join(problems, "; "))
		}
	}
}

func (w *web) askAll(ctx context.Context, addrs []string) []asked {
	all := make([]asked, len(addrs))
	var asking sync.WaitGroup
	for i, addr := range addrs {
		asking.Go(func() {
			_, status, err := w.status(ctx, addr)
			all[i] = asked{addr, status, err}
		})
	}
	asking.Wait()
	return all
}

// differences says what keeps the peers from agreeing, or nil if they do.
func differences(all []asked) (problems []string) {
	for _, a := range all {
		switch {
		case a.err != nil:
			problems = append(problems, a.err.Error())
		case !a.status.Settled:
			problems = append(problems, fmt.Sprintf("%v still sweeps removed data", a))
		}
	}
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.err == nil && b.err == nil {
				problems = append(problems, between(a, b)...)
			}
		}
	}
	return problems
}

// between compares two peers.
func between(a, b asked) (problems []string) {
	say := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf(format, args...))
	}
	lacks := func(one, other asked) {
		if n := missing(one.status, other.status); n > 0 {
			say("%v lacks %s that %v has", one, plural(n, "write"), other)
		}
	}
	lacks(a, b)
	lacks(b, a)
	switch {
	case len(problems) > 0 || !a.status.Settled || !b.status.Settled:
	case a.status.ContextHash != b.status.ContextHash:
		say("%v and %v count the same writes and differ in what they are: "+
			"some were issued twice, see their logs", a, b)
	case a.status.Root != b.status.Root:
		say("%v and %v have seen the same writes and hold different data: "+
			"one of them is damaged, see their logs", a, b)
	}
	return problems
}

// missing counts the writes that one peer has not seen and the other has.
func missing(one, other peer.Status) uint64 {
	if one.ContextHash == other.ContextHash && one.Mutations == other.Mutations {
		return 0 // the same, whatever the vectors leave out
	}
	return vectorOf(one).Missing(vectorOf(other))
}

func vectorOf(s peer.Status) crdt.VersionVector {
	v := crdt.VersionVector{}
	for text, n := range s.VersionVector {
		if id, err := crdt.ParseReplicaID(text); err == nil {
			v.Raise(id, n)
		}
	}
	return v
}
