package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

const initText = `data         %s
host key     %s
cluster key  %s%s
peer id      %s
`

func initCommand() *cobra.Command {
	var g *given
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a data directory, its host key and the cluster's secret, without starting",
		Long: "Make a data directory, its host key and, where none is there, the cluster's secret.\n" +
			"What is there stays as it is, so that init can be run again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			cfg := peer.Config{Dir: c.peer.Dir, ClusterKey: c.peer.ClusterKey}
			keys, err := peer.Init(cfg)
			if err != nil {
				return explainKey(cfg.ClusterKey, err, beginInstead)
			}
			made := ""
			if keys.Created {
				made = " (new: copy it to the hosts that are to join)"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), initText, c.peer.Dir, keys.HostKey, keys.ClusterKey,
				made, keys.PeerID)
			return err
		},
	}
	g = flagsOf(cmd, "dir", "cluster-key")
	return cmd
}
