package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/peer"
	"github.com/peerd/peerd/store"
)

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a mistake in the command line. Nothing was done.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func misuse(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// execute runs one command line and returns the exit status. When ctx ends, the command ends in
// order.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "peerd",
		Short: "A leaderless, gossip-replicated data store",
		Long: "peerd is a leaderless, gossip-replicated data store: a daemon on every host takes\n" +
			"reads and writes locally, with or without the network, and all of them converge.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	began := false
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	root.DisableSuggestions = true // they take a second line
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(runCommand(), configCommand(), initCommand(), statusCommand(), waitCommand(),
		backupCommand(), restoreCommand(), demoCommand(), versionCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !began && !errors.As(err, &usageError{}) { // it is about flags and arguments
		err = misuse("%w (see %s --help)", err, command.CommandPath())
	}
	fmt.Fprintln(stderr, "peerd:", oneLine(explain(err)))
	if usage := (usageError{}); errors.As(err, &usage) || errors.Is(err, peer.ErrNoClusterKey) {
		return exitUsage
	}
	return exitFailure
}

// explain adds what to do to errors of layers that do not know the command line.
func explain(err error) string {
	switch {
	case errors.Is(err, store.ErrLocked):
		return err.Error() + ": stop it, or choose another directory with --dir"
	case errors.Is(err, store.ErrCorrupt):
		return err.Error() + ": if other peers have the data, move the directory \"store\" away " +
			"and start again"
	case errors.Is(err, store.ErrNoSpace):
		return err.Error() + ": make room and start again"
	case errors.Is(err, fs.ErrPermission):
		return err.Error() + ": run as its owner, or choose another directory with --dir"
	}
	return err.Error()
}

// oneLine returns a text without line breaks: errors that list several problems have one on each
// line.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}
