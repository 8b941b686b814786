package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

func keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Replace the cluster's key while the cluster runs",
		Long: "Replace the cluster's key while the cluster runs: rotate has all hosts use a new one, and\n" +
			"accept the old one as well; retire ends that. Hosts that are to join later need a new copy of\n" +
			"cluster.key.",
	}
	cmd.AddCommand(
		keyChangeCommand(keyStep{
			name:  "rotate",
			done:  "The cluster uses key %s. The old one is accepted until: peerd key retire%s\n",
			short: "Give the cluster a new key, and go on accepting the old one",
			long: "Give the cluster a new key. All hosts get it over their encrypted streams and store it in\n" +
				"cluster.key; when all have, all use it. If a host does not answer, nothing changes: start it,\n" +
				"and run this again. If one fails half-way, all still understand each other: run this again to\n" +
				"go on with the same new key. A host that will not come back, or is not to be trusted any more,\n" +
				"is left out by its peer id.",
		}),
		keyChangeCommand(keyStep{
			name: "retire", done: "The cluster accepts key %[1]s alone.\n",
			short: "Accept no cluster key but the one in use",
			long: "Have all hosts accept no key but the one in use. If a host does not answer, nothing is\n" +
				"retired: start it and run this again, or leave it out by its peer id.",
		}))
	return cmd
}

// keyStep is one of the commands below "peerd key".
type keyStep struct{ name, short, long, done string }

func keyChangeCommand(k keyStep) *cobra.Command {
	var g *given
	var without []string
	cmd := &cobra.Command{
		Use:     k.name,
		Short:   k.short,
		Long:    k.long,
		Example: "  peerd key " + k.name + "\n  peerd key " + k.name + " --without 12D3KooW…",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, addr, err := g.web()
			if err != nil {
				return err
			}
			change, err := w.changeKey(cmd.Context(), addr, k.name, without)
			if err != nil {
				return err
			}
			return k.tell(cmd.OutOrStdout(), change)
		},
	}
	g = peerFlags(cmd)
	cmd.Flags().StringSliceVar(&without, "without", nil,
		"hosts to leave out, by their `ids`, or six characters or more at either end of those")
	return cmd
}

func (w *web) changeKey(ctx context.Context, addr, step string, without []string) (
	change peer.KeyChange, err error) {
	query := url.Values{"without": without}.Encode()
	resp, err := w.ask(ctx, http.MethodPost, addr, "/v1/cluster-key/"+step+"?"+query, "to "+step+" the key")
	var refused *refusedError
	if errors.As(err, &refused) && refused.change != nil {
		return *refused.change, nil
	}
	if err != nil {
		return change, err
	}
	defer resp.Body.Close()
	err = readAnswer(resp.Body, &change)
	if err != nil {
		err = unfit(addr, err)
	}
	return change, err
}

// tell says how far each host has come. The error says what to do if that is not far enough.
func (k keyStep) tell(out io.Writer, change peer.KeyChange) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tPEER ID\tSTATE")
	behind, without := 0, "" // who is left out once stays so, or would be told the key
	for _, h := range change.Hosts {
		if h.State == peer.KeyLeftOut {
			without += " --without " + h.PeerID
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", h.Name, h.PeerID, h.State)
		if h.Problem {
			behind++
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !change.Done {
		return fmt.Errorf("not done, and nothing is split: who has not taken every step may still accept the old key: mend "+
			"%s and run peerd key %s%s again, or leave out for ever with --without",
			plural(behind, "host"), k.name, without)
	}
	_, err := fmt.Fprintf(out, k.done, change.Key, without)
	return err
}
