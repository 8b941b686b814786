package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

func salvageCommand() *cobra.Command {
	var space string
	cmd := &cobra.Command{
		Use:   "salvage DIR",
		Short: "Print the writes of a stopped peer that no other is known to have",
		Long: "Print the writes in a stopped peer's data directory that no other peer is known to have, as JSON, a line\n" +
			"for each: before the directory is given up, as one side of a fork is. After a fork these are the writes\n" +
			"of the version that is there, of this host and of others. Enter by hand on the side that stays what is\n" +
			"to be kept: a line that two hosts print with the same replica and dot is one write. What is not known\n" +
			"is printed rather than left out. Nothing of what is stored is changed, and all files stay their owner's.",
		Example: "  peerd salvage /var/lib/peerd > lost.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			signal.Ignore(syscall.SIGPIPE) // who reads may end first: the copy of what is rotten is removed
			out := bufio.NewWriter(cmd.OutOrStdout())
			lines := json.NewEncoder(out)
			lines.SetEscapeHTML(false)
			err := peer.Salvage(args[0], space, func(w peer.Salvaged) error {
				return cmp.Or(cmd.Context().Err(), lines.Encode(w))
			})
			if errors.Is(err, peer.ErrNotHeld) {
				err = fmt.Errorf("%w: look for its name in what is printed without --space", err)
			}
			return errors.Join(err, out.Flush())
		},
	}
	cmd.Flags().StringVar(&space, "space", "", "`name` of the only space whose writes are printed")
	complete(cmd)
	return cmd
}
