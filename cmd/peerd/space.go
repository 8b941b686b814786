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

func spaceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "space",
		Short: "List the spaces that a host holds, or drop one",
		Long: "A space is a named set of keys, which is replicated apart from others by the hosts that take part in it.\n" +
			"Its first write makes it: with ?space=NAME over HTTP, or SELECT N for the space dbN over Redis. A host\n" +
			"takes part in all, or in those that --spaces of peerd run names.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(spaceListCommand(), spaceDropCommand())
	return cmd
}

func spaceListCommand() *cobra.Command {
	var g *given
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the spaces that a host holds",
		Example: "  peerd space list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, addr, err := g.web()
			if err != nil {
				return err
			}
			return w.listSpaces(cmd.Context(), cmd.OutOrStdout(), addr)
		},
	}
	g = peerFlags(cmd)
	return cmd
}

func spaceDropCommand() *cobra.Command {
	var g *given
	var force bool
	cmd := &cobra.Command{
		Use:   "drop NAME",
		Short: "End a host's part in a space and delete its copy",
		Long: "End a host's part in a space and delete its copy. Other hosts keep theirs. It is refused while the copy has\n" +
			"writes that no other host is known to have durably, unless --force says that they may be lost. The host takes\n" +
			"the space up again when something is written to it there, or if its --spaces names it at a start. Until then\n" +
			"reads of it fail there: of the space default those of all who name no space, and of Redis' database 0.",
		Example: "  peerd space drop orders",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, addr, err := g.web()
			if err != nil {
				return err
			}
			return w.dropSpace(cmd.Context(), cmd.OutOrStdout(), addr, args[0], force)
		},
	}
	g = peerFlags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "drop also what no other host has")
	return cmd
}

func (w *web) listSpaces(ctx context.Context, stdout io.Writer, addr string) error {
	resp, err := w.ask(ctx, http.MethodGet, addr, "/v1/spaces", "to list its spaces")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var told struct{ Spaces []peer.SpaceStatus }
	if err := readAnswer(resp.Body, &told); err != nil {
		return unfit(addr, err)
	}
	out := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "SPACE\tKEYS\tWRITES\tNEIGHBOURS\tREADY")
	for _, s := range told.Spaces {
		ready := "yes"
		if !s.Ready {
			ready = "no: " + s.Reason
		}
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%s\n", s.Space, s.Keys, s.Mutations, s.Neighbours, ready)
	}
	return out.Flush()
}

func (w *web) dropSpace(ctx context.Context, stdout io.Writer, addr, name string, force bool) error {
	if err := peer.CheckSpaceName(name); err != nil {
		return misuse("%w", err)
	}
	path := fmt.Sprintf("/v1/spaces/%s?force=%t", url.PathEscape(name), force)
	resp, err := w.ask(ctx, http.MethodDelete, addr, path, "to drop the space "+name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, dropText, name, addr)
	if name == peer.DefaultSpace && err == nil {
		_, err = io.WriteString(stdout, dropDefaultText)
	}
	return errors.Join(err, resp.Body.Close())
}

const (
	dropText = "the space %s is dropped on the host that answers on %s: reads of it fail there until something is written " +
		"to it there\n"
	dropDefaultText = "It is the space of all who name none, and of Redis' database 0: send these clients to another host. " +
		"With its first write here it is filled again from the others\n"
)
