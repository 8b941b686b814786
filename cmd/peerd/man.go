package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIRECTORY",
		Short: "Write manual pages into a directory, one for each command",
		Long: "Write manual pages, peerd.1 and one for each command, into a directory that is there. They\n" +
			"say the same as --help. Their date is that of the commit peerd was built from.",
		Example: "  peerd man /usr/local/share/man/man1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeMan(cmd.Root(), args[0])
		},
	}
}

// writeMan writes the pages. Built from a commit, the same binary always writes the same.
func writeMan(root *cobra.Command, dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return misuse("%s is no directory: name one for the manual pages", dir)
	}
	header := &doc.GenManHeader{Section: "1", Source: "peerd " + version(), Manual: "peerd"}
	if at, err := time.Parse(time.RFC3339, buildSettings()["vcs.time"]); err == nil {
		header.Date = &at
	}
	root.DisableAutoGenTag = true // it would have the time of today
	root.InitDefaultVersionFlag()
	listCommands(root)
	if err := doc.GenManTree(root, header, dir); err != nil {
		return fmt.Errorf("manual pages: %w", err)
	}
	return nil
}

// listCommands adds the commands below one to its text, which cobra puts into help alone, and so
// all the way down.
func listCommands(cmd *cobra.Command) {
	list := ""
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() {
			list += "**" + below.Name() + "**\n: " + below.Short + "\n\n"
		}
		listCommands(below)
	}
	if list != "" {
		cmd.Long += "\n\n# COMMANDS\n" + list
	}
}
