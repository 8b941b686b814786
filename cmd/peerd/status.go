package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

func statusCommand() *cobra.Command {
	var g *given
	var raw, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how a running peer is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, addr, err := g.web()
			if err != nil {
				return err
			}
			if watch {
				return w.watchStatus(cmd.Context(), cmd.OutOrStdout(), addr, raw)
			}
			return w.printStatus(cmd.Context(), cmd.OutOrStdout(), addr, raw)
		},
	}
	g = peerFlags(cmd)
	cmd.Flags().BoolVar(&raw, "json", false, "print everything, as JSON")
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every second, until Ctrl-C")
	return cmd
}

func (w *web) printStatus(ctx context.Context, out io.Writer, addr string, raw bool) error {
	body, status, err := w.status(ctx, addr)
	if err != nil {
		return err
	}
	if raw {
		_, err = out.Write(escapedJSON(body))
		return err
	}
	return writeStatus(out, status, time.Now())
}

// writeStatus writes a status for people. now is what ages are counted from.
func writeStatus(out io.Writer, s peer.Status, now time.Time) error {
	state := "ready"
	if !s.Ready {
		state = "not ready: " + s.Reason
	}
	for _, p := range s.Problems {
		fmt.Fprintf(out, "PROBLEM %s, for %v: %s\n  %s\n", p.ID, now.Sub(p.Since).Round(time.Second), p.What, p.Do)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "name\t%s (%s)\n", s.Name, state)
	fmt.Fprintf(w, "peer\t%s\n", brief(s.PeerID))
	if len(s.Spaces) > 0 {
		fmt.Fprintf(w, "spaces\t%s (see peerd space list)\n", strings.Join(spacesOf(s), ", "))
	}
	withDefault := s.Replica != "" // what follows is of the space default, unless that is not held
	if withDefault {
		fmt.Fprintf(w, "replica\t%s\n", s.Replica)
	}
	fmt.Fprintf(w, "gossip\t%s\n", cmp.Or(s.GossipAddr, "offline"))
	data := ""
	if withDefault {
		data = fmt.Sprintf("%s in %s, ", plural(s.Keys, "key"), plural(s.Cells, "cell"))
	}
	fmt.Fprintf(w, "data\t%s%s on disk\n", data, size(s.StoreBytes))
	if s.MinFreeBytes > 0 {
		fmt.Fprintf(w, "disk\t%s free, %s must be\n", size(int64(s.FreeBytes)), size(int64(s.MinFreeBytes)))
	}
	if withDefault {
		fmt.Fprintf(w, "context\t%s of %s by %s\n", short(s.ContextHash), plural(s.Mutations, "write"),
			plural(s.Replicas, "replica"))
		fmt.Fprintf(w, "root\t%s%s\n", short(s.Root), unsettled(s))
	}
	if n := len(s.AcceptedKeys); n > 0 {
		fmt.Fprintf(w, "KEYS\t%s besides the cluster's one accepted: peerd key rotate, then peerd key retire\n",
			plural(n, "key"))
	}
	for _, of := range s.Spaces {
		if of.Unchecked > 0 {
			fmt.Fprintf(w, "check\tof the data of space %s: %.0f%% was read since it was opened\n", of.Space,
				100*(1-of.Unchecked))
		}
		if of.Repairing != nil {
			fmt.Fprintf(w, "repair\tof space %s from %s: %s\n", of.Space, namesOf([]string{of.Repairing.From}, s.Members),
				progressOf(of.Repairing))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return writeMembers(out, s.Members, now)
}

// progressOf says how far a repair is.
func progressOf(r *peer.Repairing) string {
	if r.Of == 0 {
		return size(r.Bytes) + " of what differs"
	}
	far := fmt.Sprintf("%d of %s, %s", r.Cells, plural(r.Of, "cell"), size(r.Bytes))
	if r.SecondsLeft > 0 {
		far += fmt.Sprintf(", %.0f a second, %v left", r.CellsPerSecond, time.Duration(math.Ceil(r.SecondsLeft))*time.Second)
	}
	return far
}

func spacesOf(s peer.Status) (names []string) {
	for _, one := range s.Spaces {
		names = append(names, one.Space)
	}
	return names
}

func writeMembers(out io.Writer, members []peer.Member, now time.Time) error {
	if len(members) == 0 {
		_, err := fmt.Fprintln(out, "\nThis peer knows no other yet.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nMEMBER\tADDRESS\tALIVE\tSINCE\tRTT\tTHEY LACK\tWE LACK\tPROBLEMS")
	for _, m := range members {
		alive, rtt := "no", "-"
		switch {
		case m.Alive && m.Linked:
			alive = "yes"
		case m.Alive:
			alive = "no link"
		}
		if m.RTTms != nil {
			rtt = fmt.Sprintf("%.1f ms", *m.RTTms)
		}
		fmt.Fprintf(w, "%s (%s)\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, brief(m.PeerID), m.Addr, alive,
			now.Sub(m.Since).Round(time.Second), rtt, known(m.TheyLack), known(m.WeLack), problemsOf(m.Told))
	}
	return w.Flush()
}

// problemsOf returns the ids of what is wrong at a member, or a dash if that is not known.
func problemsOf(told *peer.Told) string {
	switch {
	case told == nil:
		return "-"
	case len(told.Problems) == 0:
		return "none"
	}
	return strings.Join(told.Problems, ", ")
}

// known returns a number, or a dash if it is not known.
func known(n *uint64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatUint(*n, 10)
}

// namesOf returns the names of members, by their peer ids.
func namesOf(ids []string, members []peer.Member) string {
	var names []string
	for _, id := range ids {
		name := brief(id)
		for _, m := range members {
			if m.PeerID == id {
				name = fmt.Sprintf("%s (%s)", m.Name, brief(id))
			}
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func unsettled(s peer.Status) string {
	if s.Settled {
		return ""
	}
	return " (removed data is still swept)"
}
