package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
)

func backupCommand() *cobra.Command {
	var g *given
	var verify bool
	var space string
	cmd := &cobra.Command{
		Use:   "backup FILE|-",
		Short: "Write a backup of a running peer to a new file",
		Long: "Write a backup to a new file: everything that a running peer holds, or of one space, each space at a\n" +
			"moment of its own, compressed and with checksums. Reads and writes go on meanwhile. The file appears when\n" +
			"it is whole. It is not encrypted, and holds no keys: keep cluster.key apart. \"-\" is the standard output,\n" +
			"with --verify the standard input: then only exit status 0 says that it is whole.",
		Example: "  peerd backup /backup/monday.peerd\n  peerd backup --verify /backup/monday.peerd\n" +
			"  peerd backup - | ssh backup.example.com 'cat > monday.peerd'",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m := newMeter(cmd.ErrOrStderr())
			if verify {
				return verifyBackup(cmd, m, args[0])
			}
			w, addr, err := g.web()
			if err != nil {
				return err
			}
			if args[0] == "-" {
				return w.streamBackup(cmd, m, addr, space)
			}
			return w.takeBackup(cmd.Context(), cmd.OutOrStdout(), m, addr, space, args[0])
		},
	}
	g = peerFlags(cmd)
	cmd.Flags().StringVar(&space, "space", "", "`name` of the only space to back up")
	cmd.Flags().BoolVar(&verify, "verify", false, "only check that the file is a whole backup")
	return cmd
}

func verifyBackup(cmd *cobra.Command, m *meter, file string) error {
	f, err := openBackup(cmd, file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := peer.VerifyBackup(cmd.Context(), f, m.show)
	m.end()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is whole: %s\n", file, describe(info))
	return err
}

// openBackup opens a file, or the standard input in place of "-".
func openBackup(cmd *cobra.Command, file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(file)
}

// streamBackup writes a backup to the standard output, checks it on the way, and says on the
// standard error what it is.
func (w *web) streamBackup(cmd *cobra.Command, m *meter, addr, space string) error {
	if isTerminal(cmd.OutOrStdout()) {
		return misuse("a backup is not for a terminal: name a file, or hand it to a program")
	}
	began := time.Now()
	info, err := w.receiveBackup(cmd.Context(), addr, space, cmd.OutOrStdout(), m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s, in %s\n", describe(info), took(time.Since(began)))
	return err
}

// describe says what a backup holds.
func describe(info peer.BackupInfo) string {
	var names []string
	for _, s := range info.Spaces {
		names = append(names, s.Space)
	}
	what := "space "
	if len(names) > 1 {
		what = "spaces "
	}
	return fmt.Sprintf("backup of %s of peer %q of %s, %s, %s, %s", what+strings.Join(names, ", "), info.Name,
		info.Made.UTC().Format(time.RFC3339), plural(info.Keys, "key"), plural(info.Records, "record"),
		size(int64(info.Bytes)))
}

// takeBackup fetches a backup, checks it on the way, and only then gives it its name.
func (w *web) takeBackup(ctx context.Context, stdout io.Writer, m *meter, addr, space, file string) (
	err error) {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s is there already: name a new file", file)
	}
	partial := file + ".partial"
	out, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there: another backup writes it, or was interrupted: if none runs, remove it",
			partial)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot write the backup: there is no directory %s", filepath.Dir(file))
	}
	if err != nil {
		return fmt.Errorf("cannot write the backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(partial))
		}
	}()
	began := time.Now()
	info, err := w.receiveBackup(ctx, addr, space, out, m)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := giveName(partial, file); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: %s, in %s\n", file, describe(info), took(time.Since(began)))
	return err
}

// receiveBackup copies a peer's backup to out and checks it.
func (w *web) receiveBackup(ctx context.Context, addr, space string, out io.Writer, m *meter) (
	info peer.BackupInfo, err error) {
	path := "/v1/backup"
	if space != "" {
		path += "?space=" + url.QueryEscape(space)
	}
	resp, err := w.ask(ctx, http.MethodGet, addr, path, "a backup")
	if err != nil {
		return info, err
	}
	defer resp.Body.Close()
	to := &errWriter{w: out}
	info, err = peer.VerifyBackup(ctx, io.TeeReader(resp.Body, to), m.show)
	m.end()
	switch {
	case ctx.Err() != nil:
		return info, errors.New("interrupted: there is no backup")
	case to.err != nil:
		return info, fmt.Errorf("cannot write the backup: %w", to.err)
	case err != nil:
		return info, fmt.Errorf("the backup from %s did not come whole: %w: see the log of the peer", addr, err)
	}
	return info, nil
}

// giveName renames a file that is whole to a name that is free, durably.
func giveName(partial, file string) error {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s appeared meanwhile: name a new file", file)
	}
	if err := os.Rename(partial, file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
