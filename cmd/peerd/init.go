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
	var cfg peer.Config
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a data directory, its host key and the cluster's secret, without starting",
		Long: "Make a data directory, its host key and, where none is there, the cluster's secret.\n" +
			"What is there stays as it is, so that init can be run again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := initKeys(cfg)
			if err != nil {
				return err
			}
			made := ""
			if keys.Created {
				made = " (new: copy it to the hosts that are to join)"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), initText, cfg.Dir, keys.HostKey, keys.ClusterKey,
				made, keys.PeerID)
			return err
		},
	}
	cmd.Flags().StringVar(&cfg.Dir, "dir", defaultDir, "`directory` for data and keys")
	cmd.Flags().StringVar(&cfg.ClusterKey, "cluster-key", "",
		"`file` with the secret of a cluster that is there (default cluster.key in the directory)")
	return cmd
}
