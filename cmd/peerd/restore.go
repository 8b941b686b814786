package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

func restoreCommand() *cobra.Command {
	var g *given
	cmd := &cobra.Command{
		Use:   "restore FILE|-",
		Short: "Make a data directory from a backup",
		Long: "Make a new data directory from a backup. The peer that is started there is a new replica with\n" +
			"the data of the backup: it fetches what it lacks from the other peers, and gives them what they\n" +
			"lack. What was removed since the backup was taken stays removed.\n\n" +
			"The directory must be new, or hold nothing but host.key, cluster.key, members.json and clock.json:\n" +
			"with those of the host that was lost it is the same member again. \"-\" is the standard input.",
		Example: "  peerd restore monday.peerd --dir /var/lib/peerd --cluster-key cluster.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			f, err := openBackup(cmd, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			m := newMeter(cmd.ErrOrStderr())
			cfg := peer.RestoreConfig{
				Dir: c.peer.Dir, ClusterKey: c.peer.ClusterKey, Progress: m.show,
			}
			info, err := peer.Restore(cmd.Context(), f, cfg)
			m.end()
			if errors.Is(err, peer.ErrNotEmpty) {
				return usageError{fmt.Errorf("%w (choose another directory with --dir)", err)}
			}
			err = explainKey(cfg.ClusterKey, err, "leave --cluster-key out to name it at the first start")
			if usage := (usageError{}); err != nil && !errors.As(err, &usage) {
				err = fmt.Errorf("%s: %w", args[0], err)
			}
			if err != nil {
				return err
			}
			return sayRestored(cmd.OutOrStdout(), info, cfg.Dir)
		},
	}
	g = flagsOf(cmd, "dir", "cluster-key")
	g.flags.Lookup("cluster-key").Usage =
		"`file` with the secret of the cluster to join, to be copied into the directory"
	return cmd
}

func sayRestored(stdout io.Writer, info peer.BackupInfo, dir string) error {
	next := "Start it: peerd run --dir " + dir + ", with --join and the address of a peer that is there"
	key := filepath.Join(dir, "cluster.key")
	if _, err := os.Stat(key); errors.Is(err, fs.ErrNotExist) {
		next += "\nIt has no cluster key: copy that of its cluster to " + key + ", or name it with --cluster-key at the first start"
	}
	_, err := fmt.Fprintf(stdout, "restored into %s: %s\n%s\n", dir, describe(info), next)
	return err
}
