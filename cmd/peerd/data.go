package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/peerd/peerd/api/httpapi"
)

// dataTimeout is how long one request about data may take: a body and an answer of the largest
// size, and the wait for a token.
const dataTimeout = time.Minute

// dataCommands are those that read and write a running peer's data over HTTP.
func dataCommands() []*cobra.Command {
	return []*cobra.Command{getCommand(), setCommand(), delCommand(), incrCommand(), keysCommand(),
		watchCommand(), txCommand()}
}

// dataFlags are what the commands about data have in common.
type dataFlags struct {
	given *given
	space string
	token string
	path  []string
	json  bool
}

func dataFlagsOf(cmd *cobra.Command, asJSON string) *dataFlags {
	d := &dataFlags{}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&d.json, "json", false, asJSON)
	flags.StringVar(&d.space, "space", "", "`name` of the space (default \"default\")")
	flags.StringVar(&d.token, "token", "", "wait until the peer has seen what this `token` of an earlier answer names")
	d.given = peerFlags(cmd)
	return d
}

// pathFlag lets a command be about a field.
func (d *dataFlags) pathFlag(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&d.path, "path", nil, "`field` of a map under the key; once more for one in a map in it")
}

// query returns what of the flags goes into a URL.
func (d *dataFlags) query() url.Values {
	q := url.Values{}
	for name, text := range map[string]string{"space": d.space, "token": d.token} {
		if text != "" {
			q.Set(name, text)
		}
	}
	return q
}

// dataClient reads and writes a running peer's data over HTTP.
type dataClient struct {
	*web
	addr  string
	flags *dataFlags
}

func (d *dataFlags) client() (*dataClient, error) {
	w, addr, err := d.given.web()
	return &dataClient{w, addr, d}, err
}

// do sends a request about data, with a body unless it is nil, and reads the answer into out.
func (s *dataClient) do(ctx context.Context, method, path string, q url.Values, body, out any, what string) error {
	ctx, cancel := context.WithTimeout(ctx, dataTimeout)
	defer cancel()
	var text io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return misuse("%w", err)
		}
		text = bytes.NewReader(encoded)
	}
	resp, err := s.send(ctx, method, s.addr, path+"?"+q.Encode(), text, what)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return unfit(s.addr, err)
	}
	return nil
}

// keyPath is where a key is over HTTP.
func keyPath(key string) string {
	if key == "." || key == ".." {
		key = strings.ReplaceAll(key, ".", "%2E")
	} else {
		key = url.PathEscape(key)
	}
	return "/v1/keys/" + key
}

// stored is what HTTP answers of a key, a field or a value.
type stored struct {
	Key       *octets    `json:"key,omitempty"`
	Path      []octets   `json:"path,omitempty"`
	Name      *octets    `json:"name,omitempty"`
	Type      string     `json:"type"`
	Value     *octets    `json:"value,omitempty"`
	Values    []octets   `json:"values,omitempty"`
	Enabled   *bool      `json:"enabled,omitempty"`
	Elements  *[]octets  `json:"elements,omitempty"`
	Scores    *[]scored  `json:"scores,omitempty"`
	Bytes     *octets    `json:"bytes,omitempty"`
	Registers []byte     `json:"registers,omitempty"`
	Count     *int64     `json:"count,omitempty"`
	Items     *[]octets  `json:"items,omitempty"`
	Entries   *[]item    `json:"entries,omitempty"`
	Fields    *[]*stored `json:"fields,omitempty"`
	Also      []*stored  `json:"also,omitempty"`
	Expires   string     `json:"expires,omitempty"`
	Cursor    string     `json:"cursor,omitempty"`
	Token     string     `json:"token,omitempty"`
}

// scored is an element of a sorted set. Its score is a number, or "inf" or "-inf": it is handed
// on as it came.
type scored struct {
	Element octets          `json:"element"`
	Score   json.RawMessage `json:"score"`
}

func (s scored) text(between string) string {
	return legible(string(s.Element)) + between + strings.Trim(string(s.Score), `"`)
}

// item is an entry of a stream: its fields, each with its value behind it.
type item struct {
	ID     string   `json:"id"`
	Fields []octets `json:"fields"`
}

type octets = httpapi.Octets

func getCommand() *cobra.Command {
	var d *dataFlags
	var conflicts, raw bool
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Print what a running peer stores under a key",
		Long: "Print what is stored under a key: a string as it is, a set or list with an element on\n" +
			"each line, a sorted set with an element, a tab and its score, a stream with an entry's id,\n" +
			"its fields and their values with tabs between, a map with a field on each line and tabs\n" +
			"between the names and the value, an enabled flag as \"true\", a bitmap as its bytes, a\n" +
			"HyperLogLog as its count. A text with control characters, or that is no UTF-8, is quoted:\n" +
			"--raw prints a string byte for byte, without an end of line. With --conflicts every\n" +
			"concurrent value has a line, that begins with its type: peerd set settles the conflict. If\n" +
			"nothing is stored there, the exit status is 1.",
		Example: "  peerd get greeting\n  peerd get ann --path mail\n  peerd get greeting --conflicts",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := d.client()
			if err != nil {
				return err
			}
			v, err := s.get(cmd.Context(), args[0], conflicts)
			switch {
			case err != nil:
				return err
			case d.json:
				return printJSON(cmd.OutOrStdout(), v)
			case raw && v.Value == nil && v.Bytes == nil:
				return fmt.Errorf("%s is a %s, and --raw prints a string: leave it out", d.where(args[0]),
					v.Type)
			case raw:
				_, err = io.WriteString(cmd.OutOrStdout(), string(*cmp.Or(v.Value, v.Bytes)))
				return err
			}
			return writeLines(cmd.OutOrStdout(), v, conflicts)
		},
	}
	d = dataFlagsOf(cmd, "print the answer as JSON")
	d.pathFlag(cmd)
	cmd.Flags().BoolVar(&conflicts, "conflicts", false, "show every concurrent value")
	cmd.Flags().BoolVar(&raw, "raw", false, "print a string byte for byte")
	cmd.MarkFlagsMutuallyExclusive("raw", "json", "conflicts")
	return cmd
}

// where names a key, or a field in it.
func (d *dataFlags) where(key string) string {
	return strings.Join(legibles(append([]string{key}, d.path...)), " ")
}

// get reads a key with all pages of it.
func (s *dataClient) get(ctx context.Context, key string, conflicts bool) (*stored, error) {
	q := s.flags.query()
	q["path"] = s.flags.path
	if conflicts {
		q.Set("conflicts", "true")
	}
	var all *stored
	for limit := httpapi.MaxItems; ; {
		q.Set("limit", strconv.Itoa(limit))
		page := &stored{}
		err := s.do(ctx, http.MethodGet, keyPath(key), q, nil, page, "to read "+s.flags.where(key))
		var refused *refusedError
		switch {
		case errors.As(err, &refused) && refused.code == "not-found":
			return nil, fmt.Errorf("nothing is stored under %s", s.flags.where(key))
		case errors.As(err, &refused) && refused.code == "too-large" && limit > 1:
			limit /= 2 // its fields are large
			continue
		case err != nil:
			return nil, err
		}
		if all == nil {
			all = page
		} else {
			all.append(page)
		}
		if page.Cursor == "" {
			all.Cursor = ""
			return all, nil
		}
		q.Set("cursor", page.Cursor)
	}
}

// append adds the next page of what has members.
func (v *stored) append(next *stored) {
	join(v.Elements, next.Elements)
	join(v.Scores, next.Scores)
	join(v.Items, next.Items)
	join(v.Entries, next.Entries)
	join(v.Fields, next.Fields)
}

func join[T any](all, next *[]T) {
	if all != nil && next != nil {
		*all = append(*all, *next...)
	}
}

// writeLines writes a value for people: a line for each text, element and flag, behind the names of
// the fields that it stands in. With conflicts its type stands before it.
func writeLines(out io.Writer, v *stored, conflicts bool) error {
	w := &errWriter{w: out}
	v.lines(w, "", conflicts)
	return w.err
}

func (v *stored) lines(w io.Writer, before string, conflicts bool) {
	line := func(text string) {
		if conflicts {
			text = v.Type + "\t" + text
		}
		fmt.Fprintln(w, before+text)
	}
	switch {
	case v.Fields != nil:
		for _, f := range *v.Fields {
			f.lines(w, before+legible(string(*f.Name))+"\t", conflicts)
		}
	case v.Elements != nil || v.Items != nil:
		for _, e := range *cmp.Or(v.Elements, v.Items) {
			line(legible(string(e)))
		}
	case v.Scores != nil:
		for _, e := range *v.Scores {
			line(e.text("\t"))
		}
	case v.Entries != nil:
		for _, e := range *v.Entries {
			text := legible(e.ID)
			for _, f := range e.Fields {
				text += "\t" + legible(string(f))
			}
			line(text)
		}
	case v.Bytes != nil:
		line(legible(string(*v.Bytes)))
	case v.Count != nil:
		line(strconv.FormatInt(*v.Count, 10))
	case v.Enabled != nil:
		line(strconv.FormatBool(*v.Enabled))
	case conflicts && v.Values != nil:
		for _, text := range v.Values {
			line(legible(string(text)))
		}
	case v.Value != nil:
		line(legible(string(*v.Value)))
	}
	for _, also := range v.Also {
		also.lines(w, before, conflicts)
	}
}

// errWriter keeps the first error of a writer, and writes nothing after it.
type errWriter struct {
	w   io.Writer
	err error
}

func (w *errWriter) Write(b []byte) (int, error) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
	return len(b), w.err
}

func setCommand() *cobra.Command {
	var d *dataFlags
	cmd := &cobra.Command{
		Use: "set KEY VALUE", SuggestFor: []string{"put"},
		Short: "Make a key of a running peer hold a value and nothing else",
		Long: "Make a key, or a field in it, hold a value and nothing else: what is there, of\n" +
			"whatever type, is replaced, so that a conflict is settled. The value is a text, or\n" +
			"with --json one of any type, as peerd get --json prints it. \"-\" stands for what comes\n" +
			"on the standard input.",
		Example: "  peerd set greeting hello\n  peerd set photo - < photo.jpg\n" +
			"  peerd set tags --json '{\"type\": \"set\", \"elements\": [\"red\", \"blue\"]}'",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := d.client()
			if err != nil {
				return err
			}
			text, err := argument(cmd.InOrStdin(), args[1])
			if err != nil {
				return err
			}
			body := stringBody(text)
			if d.json {
				if body, err = jsonArgument(text); err != nil {
					return err
				}
			}
			q := d.query()
			q["path"] = d.path
			var done changes
			err = s.do(cmd.Context(), http.MethodPut, keyPath(args[0]), q, body, &done,
				"to store "+d.where(args[0]))
			return d.tell(cmd.OutOrStdout(), done, "OK", err)
		},
	}
	d = dataFlagsOf(cmd, "the value is JSON, and so is the answer")
	d.pathFlag(cmd)
	return cmd
}

// stringBody returns a string as it is sent: a long one in base64, as JSON may take six bytes for
// one of text.
func stringBody(text string) any {
	if len(text) > httpapi.MaxBody/8 {
		return map[string]any{"type": "string", "value": map[string][]byte{"base64": []byte(text)}}
	}
	return stored{Type: "string", Value: (*octets)(&text)}
}

// argument returns an argument, or what comes on the standard input in place of "-".
func argument(stdin io.Reader, text string) (string, error) {
	if text != "-" {
		return text, nil
	}
	all, err := io.ReadAll(io.LimitReader(stdin, httpapi.MaxBody+1))
	if err == nil && len(all) > httpapi.MaxBody {
		err = fmt.Errorf("the standard input has more than %s", exactSize(httpapi.MaxBody))
	}
	return string(all), err
}

func jsonArgument(text string) (json.RawMessage, error) {
	if !json.Valid([]byte(text)) {
		return nil, misuse("this is no JSON: %s: docs/http.md has the forms of values and operations",
			legible(text[:min(len(text), 64)]))
	}
	return json.RawMessage(text), nil
}

// changes is what HTTP answers of a write.
type changes struct {
	Results []*result `json:"results,omitempty"`
	Changed []octets  `json:"changed"`
	Token   string    `json:"token"`
}

type result struct {
	Changed bool     `json:"changed"`
	Count   *int     `json:"count,omitempty"`
	Value   *int64   `json:"value,omitempty"`
	Scores  []scored `json:"scores,omitempty"`
	Cursor  string   `json:"cursor,omitempty"`
}

// tell prints what a write did: for people, or as it was answered.
func (d *dataFlags) tell(out io.Writer, done changes, text string, err error) error {
	switch {
	case err != nil:
		return err
	case d.json:
		return printJSON(out, done)
	}
	_, err = fmt.Fprintln(out, text)
	return err
}

// operation is one of a transaction.
type operation struct {
	Op     string   `json:"op"`
	Path   []octets `json:"path,omitempty"`
	Prefix *octets  `json:"prefix,omitempty"`
	Cursor string   `json:"cursor,omitempty"`
	By     *int64   `json:"by,omitempty"`
}

// pathTo returns the path of a key, and of the field in it that the flags name.
func (d *dataFlags) pathTo(key string) []octets {
	path := []octets{octets(key)}
	for _, name := range d.path {
		path = append(path, octets(name))
	}
	return path
}

// run does operations as one transaction.
func (s *dataClient) run(ctx context.Context, body any, what string) (done changes, err error) {
	err = s.do(ctx, http.MethodPost, "/v1/tx", s.flags.query(), body, &done, what)
	return done, err
}

type transaction struct {
	Ops []operation `json:"ops"`
}

func delCommand() *cobra.Command {
	var d *dataFlags
	var prefix string
	cmd := &cobra.Command{
		Use: "del KEY...", SuggestFor: []string{"delete", "rm", "unset"},
		Short: "Delete keys of a running peer, or all that begin with a prefix",
		Long: "Delete keys, in one transaction, or a field, and print how many were there. With\n" +
			"--prefix all keys that begin with it are deleted, in as many transactions as that\n" +
			"takes.",
		Example: "  peerd del greeting visits\n  peerd del ann --path mail\n" +
			"  peerd del --prefix session:",
		Args: func(cmd *cobra.Command, args []string) error {
			if wanted := cmd.Flags().Changed("prefix"); wanted == (len(args) > 0) {
				return misuse("name the keys to delete, or --prefix (see peerd del --help)")
			} else if wanted && prefix == "" {
				return misuse("an empty --prefix would delete all keys: to do that, use FLUSHDB, or the operation " +
					"delete with an empty prefix (peerd tx)")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := d.client()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return s.deletePrefix(cmd.Context(), cmd.OutOrStdout(), octets(prefix))
			}
			var t transaction
			for _, key := range args {
				t.Ops = append(t.Ops, operation{Op: "delete", Path: d.pathTo(key)})
			}
			done, err := s.run(cmd.Context(), t, "to delete "+strings.Join(legibles(args), ", "))
			n := 0
			for _, r := range done.Results {
				if r.Changed {
					n++
				}
			}
			return d.tell(cmd.OutOrStdout(), done, strconv.Itoa(n), err)
		},
	}
	d = dataFlagsOf(cmd, "print the answer as JSON, a line for each transaction")
	d.pathFlag(cmd)
	cmd.Flags().StringVar(&prefix, "prefix", "", "delete all keys that begin with this `text`")
	cmd.MarkFlagsMutuallyExclusive("path", "prefix")
	return cmd
}

// deletePrefix deletes in steps.
func (s *dataClient) deletePrefix(ctx context.Context, out io.Writer, prefix octets) error {
	op := operation{Op: "delete", Prefix: &prefix}
	for n := 0; ; {
		done, err := s.run(ctx, transaction{[]operation{op}}, "to delete keys")
		if err == nil && (len(done.Results) != 1 || done.Results[0].Count == nil) {
			err = fmt.Errorf("what answers on %s is no peerd", s.addr)
		}
		if err != nil && n > 0 {
			err = fmt.Errorf("%w (%s deleted before: run this again for the rest)", err, plural(n, "key"))
		}
		if err != nil {
			return err
		}
		step := done.Results[0]
		n += *step.Count
		op.Cursor = step.Cursor
		if s.flags.json {
			err = printJSON(out, done)
		} else if op.Cursor == "" {
			_, err = fmt.Fprintln(out, n)
		}
		if err != nil || op.Cursor == "" {
			return err
		}
	}
}

func incrCommand() *cobra.Command {
	var d *dataFlags
	var by int64
	cmd := &cobra.Command{
		Use:   "incr KEY",
		Short: "Add to a number of a running peer",
		Long: "Add to the number that a string spells, or to 0 if nothing is there, and print the\n" +
			"sum. Additions on other hosts at the same time all count.",
		Example: "  peerd incr visits\n  peerd incr stock --by -3\n  peerd incr ann --path visits",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := d.client()
			if err != nil {
				return err
			}
			t := transaction{[]operation{{Op: "string.add", Path: d.pathTo(args[0]), By: &by}}}
			done, err := s.run(cmd.Context(), t, "to add to "+d.where(args[0]))
			sum := ""
			if len(done.Results) == 1 && done.Results[0].Value != nil {
				sum = strconv.FormatInt(*done.Results[0].Value, 10)
			}
			return d.tell(cmd.OutOrStdout(), done, sum, err)
		},
	}
	d = dataFlagsOf(cmd, "print the answer as JSON")
	d.pathFlag(cmd)
	cmd.Flags().Int64Var(&by, "by", 1, "how `much`")
	return cmd
}

// listing is a page of keys.
type listing struct {
	Keys   []*listed `json:"keys"`
	Cursor string    `json:"cursor"`
	Token  string    `json:"token"`
}

type listed struct {
	Key     octets   `json:"key"`
	Types   []string `json:"types"`
	Expires string   `json:"expires,omitempty"`
}

func keysCommand() *cobra.Command {
	var d *dataFlags
	limit := 0
	cmd := &cobra.Command{
		Use: "keys [PREFIX]", SuggestFor: []string{"list", "ls", "scan"},
		Short: "List the keys of a running peer, in order",
		Long: "List the keys, or those that begin with a prefix, in the order of their bytes (of keys of\n" +
			"more than 256 bytes the first 128 count), one on each line. With --json each line is an\n" +
			"object that has the types of what is stored there as well, and when it expires.",
		Example: "  peerd keys user:\n  peerd keys --limit 10 --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := d.client()
			if err != nil {
				return err
			}
			if limit < 0 {
				return misuse("--limit %d: must be a number from 1 on, or 0 for all", limit)
			}
			return s.keys(cmd.Context(), cmd.OutOrStdout(), strings.Join(args, ""), limit)
		},
	}
	d = dataFlagsOf(cmd, "print each key as JSON, with its types")
	cmd.Flags().IntVar(&limit, "limit", 0, "print no more than this `number` (default all)")
	return cmd
}

func (s *dataClient) keys(ctx context.Context, out io.Writer, prefix string, limit int) error {
	q := s.flags.query()
	q.Set("prefix", prefix)
	for left := limit; ; {
		page := httpapi.MaxItems
		if limit > 0 {
			page = min(left, page)
		}
		q.Set("limit", strconv.Itoa(page))
		var l listing
		if err := s.do(ctx, http.MethodGet, "/v1/keys", q, nil, &l, "to list its keys"); err != nil {
			return err
		}
		for _, one := range l.Keys {
			if limit > 0 && left == 0 {
				return nil
			}
			left--
			var err error
			if s.flags.json {
				err = printJSON(out, one)
			} else {
				_, err = fmt.Fprintln(out, legible(string(one.Key)))
			}
			if err != nil {
				return err
			}
		}
		if l.Cursor == "" || limit > 0 && left == 0 {
			return nil
		}
		q.Set("cursor", l.Cursor)
	}
}

func txCommand() *cobra.Command {
	var d *dataFlags
	cmd := &cobra.Command{
		Use:   "tx OPERATIONS",
		Short: "Do several operations of any type on a running peer, all or none",
		Long: "Do a list of operations as one transaction: in order, each seeing those before it, all\n" +
			"or none, and visible together on every host. They are JSON, as POST /v1/tx takes them:\n" +
			"docs/http.md lists them. \"-\" stands for the standard input. What each did is printed\n" +
			"on a line.",
		Example: "  peerd tx '[{\"op\": \"set.add\", \"path\": [\"tags\"], \"elements\": [\"red\"]},\n" +
			"             {\"op\": \"string.add\", \"path\": [\"visits\"], \"by\": 1}]'\n" +
			"  peerd tx - < operations.json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := d.client()
			if err != nil {
				return err
			}
			text, err := argument(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			body, err := jsonArgument(text)
			if err != nil {
				return err
			}
			if strings.HasPrefix(strings.TrimSpace(text), "[") {
				body = json.RawMessage(`{"ops": ` + text + `}`)
			}
			done, err := s.run(cmd.Context(), body, "a transaction")
			if err != nil || d.json {
				return d.tell(cmd.OutOrStdout(), done, "", err)
			}
			return done.write(cmd.OutOrStdout(), body)
		},
	}
	d = dataFlagsOf(cmd, "print the answer as JSON")
	return cmd
}

// write says what each operation did.
func (c changes) write(out io.Writer, asked json.RawMessage) error {
	var t struct{ Ops []struct{ Op string } }
	if err := json.Unmarshal(asked, &t); err != nil || len(t.Ops) != len(c.Results) {
		return printJSON(out, c)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, r := range c.Results {
		did := "nothing to change"
		switch {
		case r.Value != nil:
			did = strconv.FormatInt(*r.Value, 10)
		case len(r.Scores) > 0:
			did = r.Scores[0].text(" ")
			for _, e := range r.Scores[1:] {
				did += ", " + e.text(" ")
			}
		case r.Count != nil:
			did = strconv.Itoa(*r.Count)
		case r.Changed:
			did = "done"
		}
		if r.Cursor != "" {
			did += ", and more is there: go on with the cursor " + r.Cursor
		}
		fmt.Fprintf(w, "%s\t%s\n", t.Ops[i].Op, did)
	}
	return w.Flush()
}

// printJSON prints v on one line.
func printJSON(out io.Writer, v any) error {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := out.Write(escapedJSON(line.Bytes()))
	return err
}
