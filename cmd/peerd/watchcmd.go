package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func watchCommand() *cobra.Command {
	var d *dataFlags
	var since string
	cmd := &cobra.Command{
		Use:   "watch [PREFIX]",
		Short: "Print the keys of a running peer that change, until Ctrl-C",
		Long: "Print each key, or each that begins with a prefix, when it is written or deleted, here\n" +
			"or on another host: peerd get tells what it holds then. With --json each line is an\n" +
			"event as docs/http.md describes it, with a token: --since goes on after it, on\n" +
			"whichever host, without a gap.",
		Example: "  peerd watch user:\n  peerd watch --json --since ApLP…",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := d.client()
			if err != nil {
				return err
			}
			q := d.query()
			q.Set("prefix", strings.Join(args, ""))
			if cmd.Flags().Changed("since") {
				q.Set("since", since)
			}
			resp, err := s.send(cmd.Context(), http.MethodGet, s.addr, "/v1/watch?"+q.Encode(), nil,
				"to watch its keys")
			if err != nil {
				return untilInterrupted(cmd.Context(), err)
			}
			defer resp.Body.Close()
			w := watching{dataClient: s, out: cmd.OutOrStdout(), warn: cmd.ErrOrStderr()}
			return untilInterrupted(cmd.Context(), w.follow(resp.Body))
		},
	}
	d = dataFlagsOf(cmd, "print the events as JSON, one on each line")
	cmd.Flags().StringVar(&since, "since", "", "go on after this `token`; 0 is before the first write")
	return cmd
}

// untilInterrupted returns the error of what goes on until Ctrl-C: then there is none.
func untilInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watching prints events.
type watching struct {
	*dataClient
	out, warn io.Writer
	last      string // the token up to which all was told
}

// change is an event.
type change struct {
	Event string   `json:"event"`
	Keys  []octets `json:"keys"`
	Token string   `json:"token,omitempty"`
}

// maxEvent is how long a line of an event may be, in bytes: the keys of a transaction stand on one.
const maxEvent = 1 << 30

// follow reads server-sent events until their end, which is an error.
func (w *watching) follow(events io.Reader) error {
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, maxEvent)
	name := ""
	for lines.Scan() {
		field, text, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			name = text
		case "id":
			w.last = text
		case "data":
			if err := w.event(name, text); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return w.ended(fmt.Sprintf(" (%v)", cause(err)))
	}
	return w.ended("")
}

// ended says that the watch has ended, why, and how to go on.
func (w *watching) ended(why string) error {
	text := w.addr + " ended the watch" + why
	if w.last != "" {
		text += ": go on with --since " + w.last
	}
	return errors.New(text)
}

func (w *watching) event(name, data string) error {
	if name == "problem" {
		var refused struct{ Detail string }
		if err := json.Unmarshal([]byte(data), &refused); err != nil {
			return unfit(w.addr, err)
		}
		return w.ended(" (" + refused.Detail + ")")
	}
	c := change{Event: name}
	if err := json.Unmarshal([]byte(data), &c); err != nil {
		return unfit(w.addr, err)
	}
	if w.flags.json {
		return printJSON(w.out, c)
	}
	if name == "reset" {
		fmt.Fprintln(w.warn, "peerd: the log of changes does not reach back so far: all keys that "+
			"exist follow")
	}
	for _, key := range c.Keys {
		if _, err := fmt.Fprintln(w.out, legible(string(key))); err != nil {
			return err
		}
	}
	return nil
}
