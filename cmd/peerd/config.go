package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peerd/peerd/peer"
)

// configVariable names the file of settings, as the flag --config does.
const configVariable = "PEERD_CONFIG"

// given are the settings of a command line, before the environment and the file are looked at.
type given struct {
	flags   *pflag.FlagSet // the table
	file    string
	inviter string // whom peerd join has joined by a token, beside those whom join names
}

// flagsOf gives a command flags for the settings of these names, or all, and --config.
func flagsOf(cmd *cobra.Command, names ...string) *given {
	g := &given{flags: new(options).table()}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&g.file, "config", "", "YAML `file` with settings (default $"+configVariable+")")
	g.flags.VisitAll(func(f *pflag.Flag) {
		if len(names) == 0 {
			flags.AddFlag(f)
		}
	})
	for _, name := range names {
		flags.AddFlag(g.flags.Lookup(name))
	}
	complete(cmd)
	return g
}

// peerFlags gives a command that asks a running peer the flags to find it and to be let in: its own
// settings.
func peerFlags(cmd *cobra.Command) *given {
	g := flagsOf(cmd, append([]string{"http"}, trustFlags...)...)
	g.flags.Lookup("http").Usage = "HTTP `address` of the peer"
	return g
}

// complete tells shells what may stand behind the flags.
func complete(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		fn := cobra.NoFileCompletions
		switch kind, _ := pflag.UnquoteUsage(f); kind {
		case "file":
			return // which shells complete by themselves
		case "directory":
			_ = cmd.MarkFlagDirname(f.Name) // it is there
			return
		}
		if few, ok := f.Value.(interface{ Choices() []string }); ok && len(few.Choices()) > 0 {
			fn = cobra.FixedCompletions(few.Choices(), cobra.ShellCompDirectiveNoFileComp)
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, fn) // once for each
	})
}

// config is what is in effect: the settings, and who set each.
type config struct {
	options
	given *given
	flags *pflag.FlagSet    // the table
	from  map[string]string // "--join", "PEERD_JOIN" or "peerd.yaml:3", by setting; none is the default
	stray []string          // variables that look like misspelt ones, each a sentence
}

// load returns the settings that a peer can be run with. The error is a usageError with every
// problem, each with where it stands.
func (g *given) load() (*config, error) {
	c, err := g.merge()
	if err != nil {
		return nil, err
	}
	if err := c.validate(); err != nil {
		return nil, usageError{c.locate(err)}
	}
	return c, nil
}

// merge takes each setting from the first that has it: the command line, the environment, the file,
// the default. A value is read even where another goes before it.
func (g *given) merge() (*config, error) {
	c := &config{given: g, from: map[string]string{}}
	c.flags = c.options.table()
	problems := []error{c.takeFile(g.file), c.takeEnvironment()}
	g.flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			texts := textOf(f)
			if err := setFlag(c.flags.Lookup(f.Name), texts...); err != nil {
				text := strings.Join(texts, ",")
				problems = append(problems, fmt.Errorf("--%s %q: %w", f.Name, text, err))
			}
			c.from[f.Name] = "--" + f.Name
		}
	})
	if g.inviter != "" && !slices.Contains(c.peer.Join, g.inviter) {
		c.peer.Join = append([]string{g.inviter}, c.peer.Join...)
		c.from["join"] = cmp.Or(c.from["join"], "peerd join")
	}
	if err := errors.Join(problems...); err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// public calls fn for each setting that is more than a flag for tests.
func (c *config) public(fn func(*pflag.Flag)) {
	c.flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			fn(f)
		}
	})
}

// sourceOf says who set a setting.
func (c *config) sourceOf(name string) string { return cmp.Or(c.from[name], "default") }

// takeFile takes the settings of the file of that name, or of the one that the environment names,
// if any.
func (c *config) takeFile(path string) error {
	if path == "" {
		path = os.Getenv(configVariable)
	}
	if path == "" {
		return nil
	}
	entries, err := readConfig(path)
	if err != nil {
		return err
	}
	return c.take(entries)
}

// take takes the settings of a file.
func (c *config) take(entries []entry) error {
	var problems []error
	for _, e := range entries {
		f := c.flags.Lookup(e.key)
		if f == nil || f.Hidden {
			problems = append(problems, fmt.Errorf("%s: unknown key %q: the nearest is %q "+
				"(peerd config lists all)", e.place, e.key, c.nearest(e.key)))
			continue
		}
		if err := e.setTo(f); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", e.place, err))
		}
		c.from[e.key] = e.place
	}
	return errors.Join(problems...)
}

// takeEnvironment takes the settings of the environment. Empty variables count as not set.
func (c *config) takeEnvironment() error {
	var problems []error
	known := map[string]bool{configVariable: true}
	c.public(func(f *pflag.Flag) {
		name := variable(f.Name)
		known[name] = true
		text := os.Getenv(name)
		if text == "" {
			return
		}
		if err := setFlag(f, text); err != nil {
			problems = append(problems, fmt.Errorf("%s %q: %w", name, text, err))
		}
		c.from[f.Name] = name
	})
	c.stray = c.strays(os.Environ(), known)
	return errors.Join(problems...)
}

// maxMisspelling is how many letters of a variable may be wrong for it to be taken as a misspelt
// one. Others that begin with PEERD_ are no mistake: Kubernetes makes such for a service named
// peerd.
const maxMisspelling = 2

func (c *config) strays(environment []string, known map[string]bool) (found []string) {
	for _, line := range environment {
		name, _, _ := strings.Cut(line, "=")
		setting, ours := strings.CutPrefix(name, "PEERD_")
		if !ours || known[name] {
			continue
		}
		nearest := variable(c.nearest(setting))
		if levenshtein.ComputeDistance(name, nearest) <= maxMisspelling {
			found = append(found, fmt.Sprintf("%s is no setting: the nearest is %s", name, nearest))
		}
	}
	return found
}

// nearest returns the setting whose name is most like another.
func (c *config) nearest(name string) string {
	var names []string
	c.public(func(f *pflag.Flag) { names = append(names, f.Name) })
	return nearestTo(strings.ToLower(strings.ReplaceAll(name, "_", "-")), names)
}

// locate says of each problem of the settings where the setting was made.
func (c *config) locate(err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		var located []error
		for _, one := range all.Unwrap() {
			located = append(located, c.locate(one))
		}
		return errors.Join(located...)
	}
	var problem *peer.ConfigError
	if !errors.As(err, &problem) {
		return err
	}
	field := problem.Field
	switch from := c.from[field]; {
	case strings.HasPrefix(from, "--"), strings.HasPrefix(from, "PEERD_"):
		field = from
	case from != "":
		field = from + ": " + field
	}
	return fmt.Errorf("%s %q: %s", field, problem.Value, problem.Reason)
}

// setFlag gives a flag a value: one text, of which a list takes the parts between commas, or the
// parts of a list.
func setFlag(f *pflag.Flag, texts ...string) error {
	list, ok := f.Value.(pflag.SliceValue)
	if !ok {
		return reason(f, f.Value.Set(strings.Join(texts, ",")))
	}
	var parts []string
	text := strings.Join(texts, ",")
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 && text != "" {
		return errors.New("lists nothing: leave it empty, or name what it is to list")
	}
	return list.Replace(parts)
}

// reason says what a value must be, where pflag's own error is about the function that refused it.
func reason(f *pflag.Flag, err error) error {
	switch {
	case err == nil:
		return nil
	case f.Value.Type() == "bool":
		return errors.New("must be true or false")
	case errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange):
		return errors.New("must be a number")
	}
	return err
}

// textOf returns the value of a flag as setFlag takes it.
func textOf(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
}
