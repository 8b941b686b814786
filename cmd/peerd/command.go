package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peerd/peerd/internal/words"
	"github.com/peerd/peerd/peer"
	"github.com/peerd/peerd/store"
)

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a mistake in the command line or the settings. Nothing was done.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func misuse(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// rootCommand returns the whole command line.
func rootCommand(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "peerd",
		Short: "A leaderless, gossip-replicated data store",
		Long: "peerd is a leaderless, gossip-replicated data store: a daemon on every host takes\n" +
			"reads and writes locally, with or without the network, and all of them converge.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.Version = version()
	root.SetVersionTemplate(versionText())
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(runCommand(), configCommand(), initCommand(), statusCommand(), waitCommand(),
		backupCommand(), restoreCommand(), salvageCommand(), spaceCommand(), keyCommand(), inviteCommand(), joinCommand(), memberCommand(), demoCommand(), manCommand(),
		versionCommand())
	root.AddCommand(dataCommands()...)
	root.SetHelpCommand(helpCommand())
	root.InitDefaultCompletionCmd()
	completion, _, _ := root.Find([]string{"completion"}) // it is there now
	completion.RunE = func(*cobra.Command, []string) error {
		return misuse("completion for which shell? bash, zsh, fish or powershell")
	}
	wordArguments(root)
	return root
}

// helpCommand is cobra's, but that it ends with an error if there is no such command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Say what a command does",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return misuse("%w (see peerd --help)", unknownCommand(about, strings.Join(rest, " ")))
			}
			return about.Help()
		},
	}
}

// execute runs one command line and returns the exit status. When ctx ends, the command ends in
// order.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand(stdout, stderr)
	root.SetIn(untilInterrupt(ctx, os.Stdin))
	began := false
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !began && !errors.As(err, &usageError{}) { // it is about flags and arguments
		err = misuse("%w (see %s --help)", err, command.CommandPath())
	}
	fmt.Fprintln(stderr, "peerd:", escaped(explain(err, command.Flags())))
	if usage := (usageError{}); errors.As(err, &usage) || errors.Is(err, peer.ErrNoClusterKey) ||
		errors.Is(err, peer.ErrOtherClusterKey) {
		return exitUsage
	}
	return exitFailure
}

// explain puts an error in words, and adds what to do to those of layers that do not know the
// command line. flags are the command's.
func explain(err error, flags *pflag.FlagSet) string {
	text := words.Of(err)
	elsewhere := "" // if the command can be told another directory
	dir := flags.Lookup("dir")
	if dir != nil {
		elsewhere = ", or choose another directory with --dir"
	}
	var file *fs.PathError
	switch {
	case errors.Is(err, peer.ErrLocked):
		return text + ": stop it" + elsewhere
	case errors.Is(err, store.ErrCorrupt):
		return text + ": if other peers have the data, move the directory \"store\" away and start again"
	case errors.Is(err, store.ErrFailed):
		return text + ": look for the disk's error in the kernel's log; on a disk that is well, start again"
	case errors.Is(err, store.ErrUnreadable):
		return text + ": look for the disk's error in the kernel's log; on a disk that is well, start again, " +
			"with the directory \"store\" moved away if it cannot be read and other peers have the data"
	case errors.Is(err, store.ErrNoSpace):
		return text + ": make room and run this again"
	case errors.As(err, &file) && errors.Is(err, fs.ErrPermission):
		text += ": run as a user who may"
		if dir != nil && strings.HasPrefix(filepath.Clean(file.Path), filepath.Clean(dir.Value.String())) {
			text += elsewhere
		}
	}
	return text
}
