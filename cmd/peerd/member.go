package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

func memberCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "member",
		Short: "List the hosts of the cluster, remove one, or take one back",
		Long: "A member that is away is looked for and waited for, until it is removed or was not seen for --forget-after\n" +
			"of peerd run. A removed one is refused when it comes back. It keeps its data and the cluster's key:\n" +
			"one that is not to be trusted any more is shut out by peerd key rotate --without and retire.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		memberListCommand(),
		memberChangeCommand("remove", http.MethodDelete, "Remove a member from the cluster, on all hosts",
			"%s (%s) is removed: no host looks or waits for it, or lets it in, until: peerd member add %[2]s\n"),
		memberChangeCommand("add", http.MethodPut, "Take a member back that was removed",
			"%s (%s) is let in again\n"))
	return cmd
}

func memberListCommand() *cobra.Command {
	var g *given
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the other hosts of the cluster, and those that were removed",
		Example: "  peerd member list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, addr, err := g.web()
			if err != nil {
				return err
			}
			return w.listMembers(cmd.Context(), cmd.OutOrStdout(), addr, time.Now())
		},
	}
	g = peerFlags(cmd)
	return cmd
}

func memberChangeCommand(name, method, short, done string) *cobra.Command {
	var g *given
	cmd := &cobra.Command{
		Use:   name + " MEMBER",
		Short: short,
		Long: short + ". MEMBER is its name, its gossip address, its peer id, or six characters or more at\n" +
			"either end of that, which no other has.",
		Example: "  peerd member " + name + " lima\n  peerd member " + name + " fQ3vX2aP",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.Trim(args[0], "….") == "" { // a variable that is not set, perhaps
				return misuse("%q names no member: give its name, its gossip address or its peer id", args[0])
			}
			w, addr, err := g.web()
			if err != nil {
				return err
			}
			var m peer.RemovedMember
			err = w.askJSON(cmd.Context(), method, addr, "/v1/members/"+url.PathEscape(args[0]), "to "+name+" "+args[0], &m)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), done, m.Name, m.PeerID)
			return err
		},
	}
	g = peerFlags(cmd)
	return cmd
}

// askJSON is ask for an answer that is read into out, to be shown.
func (w *web) askJSON(ctx context.Context, method, addr, path, what string, out any) error {
	resp, err := w.ask(ctx, method, addr, path, what)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := readAnswer(resp.Body, out); err != nil {
		return fmt.Errorf("no whole answer from %s: %w", addr, cause(err))
	}
	return nil
}

func (w *web) listMembers(ctx context.Context, stdout io.Writer, addr string, now time.Time) error {
	var told struct {
		Members []peer.Member
		Removed []peer.RemovedMember
	}
	if err := w.askJSON(ctx, http.MethodGet, addr, "/v1/members", "to list the members", &told); err != nil {
		return err
	}
	out := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "MEMBER\tPEER ID\tADDRESS\tSTATE")
	for _, m := range told.Members {
		state := "alive"
		if !m.Alive {
			state = "away for " + now.Sub(m.Since).Round(time.Second).String()
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", m.Name, m.PeerID, m.Addr, state)
	}
	for _, m := range told.Removed {
		fmt.Fprintf(out, "%s\t%s\t-\tremoved\n", m.Name, m.PeerID)
	}
	return out.Flush()
}
