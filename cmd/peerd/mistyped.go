package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wordArguments has a command, and all below it, refuse arguments in words that name the command
// and what it takes. A command that has others below it takes none: without one it prints its help.
func wordArguments(cmd *cobra.Command) {
	for _, below := range cmd.Commands() {
		wordArguments(below)
	}
	if cmd.HasSubCommands() {
		cmd.Args = cobra.NoArgs
		if !cmd.Runnable() {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		switch {
		case err == nil || errors.As(err, &usageError{}):
			return err
		case cmd.HasSubCommands():
			return unknownCommand(cmd, args[0])
		}
		takes := "no argument"
		if _, after, ok := strings.Cut(cmd.Use, " "); ok {
			takes = after
		}
		got := "nothing"
		if len(args) > 0 {
			got = strings.Join(legibles(args), " ")
		}
		return fmt.Errorf("%s takes %s, and got %s", cmd.CommandPath(), takes, got)
	}
}

// unknownCommand says that a command has none of that name below it, and which may have been meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	hint := ""
	cmd.SuggestionsMinimumDistance = lettersOff(name)
	if near := nearestTo(name, cmd.SuggestionsFor(name)); near != "" {
		hint = fmt.Sprintf(": is %s %s meant?", cmd.CommandPath(), near)
	}
	return fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), name, hint)
}

// lettersOff is how many letters of a word may be wrong for it to be taken as a misspelt one.
func lettersOff(word string) int {
	if len(word) <= 4 {
		return 1
	}
	return maxMisspelling
}

// nearestTo returns the word that is most like another, "" of none.
func nearestTo(name string, words []string) (nearest string) {
	least := -1
	for _, word := range words {
		if d := levenshtein.ComputeDistance(name, word); least < 0 || d < least {
			nearest, least = word, d
		}
	}
	return nearest
}

// flagError words the error of a flag on the command line as those of other sources.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	var none *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	switch {
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		return misuse("--%s %q: %w", f.Name, invalid.GetValue(), reason(f, invalid.Unwrap()))
	case errors.As(err, &none) && none.GetSpecifiedShortnames() == "":
		return unknownFlag(cmd, none.GetSpecifiedName())
	case errors.As(err, &none):
		return fmt.Errorf("%s has no flag -%s: before an argument that begins with a hyphen write --",
			cmd.CommandPath(),
			none.GetSpecifiedShortnames())
	case errors.As(err, &bare) && bare.GetSpecifiedShortnames() == "":
		return fmt.Errorf("--%s needs a value", bare.GetSpecifiedName())
	}
	return err
}

// unknownFlag says that a command has no such flag, and which may have been meant.
func unknownFlag(cmd *cobra.Command, name string) error {
	var near []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		close := levenshtein.ComputeDistance(name, f.Name) <= lettersOff(name)
		if !f.Hidden && (close || strings.HasPrefix(f.Name, name) || strings.HasPrefix(name, f.Name)) {
			near = append(near, f.Name)
		}
	})
	hint := ""
	if nearest := nearestTo(name, near); nearest != "" {
		hint = ": is --" + nearest + " meant?"
	}
	return fmt.Errorf("%s has no flag --%s%s", cmd.CommandPath(), name, hint)
}
