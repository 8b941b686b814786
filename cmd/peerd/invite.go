package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

func inviteCommand() *cobra.Command {
	var g *given
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Print the command with which a new host joins",
		Long: "Print the command with which a new host joins the cluster of a running peer. What it has behind\n" +
			"\"peerd join\" lets one host fetch the cluster's key from that peer, once, within 15 minutes: give it to\n" +
			"nobody else. The new host must reach the peer's address for data. Only loopback is reached without\n" +
			"--advertise where the peer listens on loopback alone.",
		Example: "  peerd invite",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, addr, err := g.web()
			if err != nil {
				return err
			}
			var inv peer.Invitation
			err = w.askJSON(cmd.Context(), http.MethodPost, addr, "/v1/invitations", "to invite a host", &inv)
			if err != nil {
				return err
			}
			if warning := strings.TrimSpace(reach(inv.Addr)); warning != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), warning)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "peerd join %s\n", inv.Token)
			return err
		},
	}
	g = peerFlags(cmd)
	return cmd
}

func joinCommand() *cobra.Command {
	var g *given
	cmd := &cobra.Command{
		Use:   "join TOKEN",
		Short: "Join the cluster that a host was invited to, and run a peer",
		Long: "Fetch the cluster's key from the host that printed the token (see peerd invite), keep it in the data\n" +
			"directory, and go on as peerd run does with the same flags. Later starts are peerd run's.\n\n" + settingsHelp,
		Example: "  peerd join lgLZJgAkCAES…",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			if err := c.join(cmd.Context(), cmd.OutOrStdout(), args[0]); err != nil {
				return err
			}
			return c.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	g = flagsOf(cmd)
	return cmd
}

// join uses a token.
func (c *config) join(ctx context.Context, stdout io.Writer, token string) error {
	joined, err := peer.Join(ctx, c.peer, token)
	if errors.Is(err, peer.ErrInvitation) {
		return err
	}
	if err != nil {
		return usageError{err}
	}
	c.peer, c.given.inviter = joined, joined.Join[0]
	if c.logFormat == "json" {
		return nil // both streams may go to the same place
	}
	_, err = fmt.Fprintf(stdout, "The cluster's key is in %s now, with the host at %s as a member to look for. From the next start on: peerd run\n",
		c.peer.Dir, joined.Join[0])
	return err
}
