package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settingsHelp is part of the help of commands that take settings.
const settingsHelp = "Every flag is also a key of the YAML file that --config names, and a variable of the\n" +
	"environment: --log-level warn, \"log-level: warn\" and PEERD_LOG_LEVEL=warn are the same. The\n" +
	"flag goes before the environment, that before the file, that before the default. Lists are\n" +
	"separated by commas, in the file also written as YAML lists. \"peerd config\" prints what holds."

func configCommand() *cobra.Command {
	var g *given
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the settings that a run would have, and who set each",
		Long: "Print the settings that \"peerd run\" with the same flags, environment and file would have,\n" +
			"each with who set it, or say what is wrong with them. What is printed is a file of settings\n" +
			"itself.\n\n" + settingsHelp,
		Example: "  peerd config > peerd.yaml\n  peerd config --config peerd.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			for _, what := range c.stray {
				fmt.Fprintln(cmd.ErrOrStderr(), "peerd: warning:", what)
			}
			return c.print(cmd.OutOrStdout())
		},
	}
	g = flagsOf(cmd)
	return cmd
}

// print writes the settings as YAML, with a comment each.
func (c *config) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	c.public(func(f *pflag.Flag) {
		from := c.sourceOf(f.Name)
		if stands := f.Annotations[unset]; len(stands) > 0 && f.Value.String() == "" {
			from += ": " + stands[0]
		}
		fmt.Fprintf(w, "%s: %s\t# %s\n", f.Name, yamlValue(f), from)
	})
	return w.Flush()
}

// word is a value that YAML takes as it is.
var word = regexp.MustCompile(`^[a-zA-Z0-9./][\w./-]*$`)

// yamlValue returns the value of a setting on one line.
func yamlValue(f *pflag.Flag) string {
	if _, ok := f.Value.(pflag.SliceValue); !ok {
		return yamlText(f.Value.String())
	}
	var items []string
	for _, item := range textOf(f) {
		items = append(items, quoted(item))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// yamlText returns a text as it is where YAML takes it so.
func yamlText(text string) string {
	if word.MatchString(text) && !strings.EqualFold(text, "null") {
		return text
	}
	return quoted(text)
}

// quoted returns a text as JSON, which is YAML too.
func quoted(text string) string {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // any string can be
	return strings.TrimSpace(out.String())
}
