package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/peer"
)

// waitPoll is how often the peers are asked.
const waitPoll = 100 * time.Millisecond

// leastAsk is how long a peer may take to answer though the timeout is over sooner.
const leastAsk = time.Second

func waitCommand() *cobra.Command {
	var g *given
	var addrs []string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until several peers hold the same data",
		Long: "Wait until all the peers named hold the same data: the same context hash and the same\n" +
			"root of each space, where they hold it, and none is still opening spaces that the others\n" +
			"have. If that has not happened at the timeout, the exit status is 1, and the error says\n" +
			"who lacks what.",
		Example: "  peerd wait --http 127.0.0.1:7948 --http 127.0.0.1:8948 --timeout 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(addrs) == 0 {
				return misuse("wait for whom? Name the peers: --http A --http B")
			}
			c, err := g.merge()
			if err != nil {
				return err
			}
			w, err := c.trust.web()
			if err != nil {
				return err
			}
			began := time.Now()
			all, err := w.waitForAgreement(cmd.Context(), addrs, timeout)
			if err != nil {
				return err
			}
			told := fmt.Sprintf("%s in agreement after %s", plural(len(all), "peer"), took(time.Since(began)))
			if s := all[0].status; s.Space != "" {
				told += fmt.Sprintf(": context %s, root %s", short(s.ContextHash), short(s.Root))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), told)
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
	end := time.Now().Add(timeout)
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	for {
		all := w.askAll(ctx, addrs, max(time.Until(end), leastAsk))
		problems := differences(all)
		if problems == nil {
			return all, nil
		}
		for _, a := range all {
			if usage := (usageError{}); errors.As(a.err, &usage) {
				return nil, a.err
			}
		}
		if ctx.Err() == nil && time.Until(end) <= 0 {
			return nil, fmt.Errorf("no agreement after %v: %s", timeout, strings.Join(problems, "; "))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("interrupted before agreement: %s", strings.Join(problems, "; "))
		}
	}
}

// askAll asks all peers at once, each for so long at most.
func (w *web) askAll(ctx context.Context, addrs []string, patience time.Duration) []asked {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
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

// differences says what keeps the peers from agreeing, or nil if they do: about each space, those that hold it.
func differences(all []asked) (problems []string) {
	holders := map[string][]copyOf{}
	for _, a := range all {
		if a.err != nil {
			problems = append(problems, a.err.Error())
			continue
		}
		if why := a.status.Opening; why != "" {
			problems = append(problems, fmt.Sprintf("%v does not hold all spaces yet: %s", a, why))
		}
		for _, s := range a.status.Spaces {
			holders[s.Space] = append(holders[s.Space], copyOf{a, s})
		}
	}
	for _, space := range slices.Sorted(maps.Keys(holders)) {
		prefix := ""
		if space != peer.DefaultSpace {
			prefix = "space " + space + ": "
		}
		for _, p := range differencesIn(holders[space]) {
			problems = append(problems, prefix+p)
		}
	}
	return problems
}

// copyOf is a peer's copy of a space.
type copyOf struct {
	asked
	space peer.SpaceStatus
}

// differencesIn is differences in one space.
func differencesIn(all []copyOf) (problems []string) {
	for _, c := range all {
		if !c.space.Settled {
			problems = append(problems, fmt.Sprintf("%v still sweeps removed data", c))
		}
	}
	for i, a := range all {
		for _, b := range all[i+1:] {
			problems = append(problems, between(a, b)...)
		}
	}
	return problems
}

// between compares two copies of a space.
func between(a, b copyOf) (problems []string) {
	say := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf(format, args...))
	}
	lacks := func(one, other copyOf) {
		if n := missing(one.space, other.space); n > 0 {
			say("%v lacks %s that %v has", one, plural(n, "write"), other)
		}
	}
	lacks(a, b)
	lacks(b, a)
	switch {
	case len(problems) > 0 || !a.space.Settled || !b.space.Settled:
	case a.space.ContextHash != b.space.ContextHash:
		say("%v and %v count the same writes and differ in what they are: "+
			"some were issued twice, see their logs", a, b)
	case a.space.Root != b.space.Root:
		say("%v and %v have seen the same writes and hold different data: "+
			"one of them is damaged, see their logs", a, b)
	}
	return problems
}

// missing counts the writes that one copy has not seen and the other has.
func missing(one, other peer.SpaceStatus) uint64 {
	if one.ContextHash == other.ContextHash && one.Mutations == other.Mutations {
		return 0 // the same, whatever the vectors leave out
	}
	return vectorOf(one).Missing(vectorOf(other))
}

func vectorOf(s peer.SpaceStatus) crdt.VersionVector {
	v := crdt.VersionVector{}
	for text, n := range s.VersionVector {
		if id, err := crdt.ParseReplicaID(text); err == nil {
			v.Raise(id, n)
		}
	}
	return v
}
