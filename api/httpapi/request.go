package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/peerd/peerd/internal/words"
	"github.com/peerd/peerd/peer"
)

// Limits of requests and answers.
const (
	// MaxBody is the size in bytes of a request's body. A larger one is answered with 413.
	MaxBody = 32 << 20
	// MaxOperations is how many operations a transaction may have, and how many keys a step of a
	// delete by prefix. The mutations that they amount to are bounded by peer.MaxOps and MaxCost.
	MaxOperations = 4096
	// MaxPrefixes is how many deletes by prefix a transaction may have: each goes through what
	// those before it have deleted.
	MaxPrefixes = 32
	// MaxItems is how many keys, elements and fields an answer has.
	MaxItems = 10_000
	// MaxAnswer is the size in bytes of the names and values in an answer.
	MaxAnswer = 32 << 20
	// defaultLimit is how many keys, elements or fields are answered unless the request says
	// otherwise.
	defaultLimit = 1000
	// MaxWait is how long a request may ask to wait for a token. A longer one is cut to it.
	MaxWait = 30 * time.Second
	// defaultWait is how long a request waits for a token unless it says otherwise.
	defaultWait = 5 * time.Second
	// maxBodyTime is how long a client may take to send a body.
	maxBodyTime = 30 * time.Second
)

// tokenHeader names the token in requests and answers.
const tokenHeader = "X-Peerd-Token"

// decodeBody reads a request's body into v. What v has no place for is an error, unless it is in
// extra.
func decodeBody(w http.ResponseWriter, r *http.Request, v any) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil ||
		media != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "not-json",
			"send the body as JSON, with Content-Type: application/json")
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(maxBodyTime)) // a test's recorder has none
	body, err := io.ReadAll(rationed{http.MaxBytesReader(w, r.Body, MaxBody), shareOf(r)})
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, errBusy):
		return err
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, "too-large",
			fmt.Sprintf("the body exceeds %d bytes (MaxBody)", MaxBody))
	case err != nil:
		return badRequest("the body did not come whole: " + words.Of(err))
	case !utf8.Valid(body):
		return badRequest(`the body is not UTF-8: send other bytes as {"base64": "…"}`)
	}
	if err := shareOf(r).take(weigh(body)); err != nil {
		return err
	}
	in := json.NewDecoder(bytes.NewReader(body))
	in.DisallowUnknownFields()
	if err = checkNames(body); err == nil {
		err = in.Decode(v)
	}
	if err == nil && in.Decode(new(any)) != io.EOF {
		err = errors.New("there is something after the end of the JSON")
	}
	if err != nil {
		return badRequest("the body: " + words.Of(err))
	}
	return nil
}

// checkNames returns an error if a name in JSON has other than small letters and digits, of which
// all names here are: encoding/json takes a name for another that differs in the case of letters
// alone.
func checkNames(body []byte) error {
	for i := 0; i < len(body); i++ {
		if body[i] != '"' {
			continue
		}
		begin := i
		for i++; i < len(body) && body[i] != '"'; i++ {
			if body[i] == '\\' {
				i++
			}
		}
		rest := bytes.TrimLeft(body[min(i+1, len(body)):], " \t\r\n")
		if len(rest) == 0 || rest[0] != ':' {
			continue
		}
		var name string
		if err := json.Unmarshal(body[begin:i+1], &name); err != nil {
			return err
		}
		if strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
			return fmt.Errorf("there is no member %q", name)
		}
	}
	return nil
}

// query is what a request asks for beside its path.
type query struct {
	values url.Values
	err    error // the first mistake
}

// repeated are the names that a query may have several times.
var repeated = []string{"path", "without"}

// queryOf returns the query of a request, in which only the given names are allowed.
func queryOf(r *http.Request, names ...string) *query {
	q := &query{}
	q.values, q.err = url.ParseQuery(r.URL.RawQuery)
	if q.err != nil {
		q.err = badRequest("the query: " + words.Of(q.err))
		return q
	}
	for _, name := range slices.Sorted(maps.Keys(q.values)) {
		switch {
		case !slices.Contains(names, name):
			q.fail(fmt.Sprintf("the query has %q, which means nothing here", name))
		case len(q.values[name]) > 1 && !slices.Contains(repeated, name):
			q.fail(fmt.Sprintf("the query has %q several times: say it once", name))
		}
	}
	return q
}

// dataQueryOf is queryOf for requests about data, which may name a space, a token, and how long to
// wait for that: see await.
func dataQueryOf(r *http.Request, names ...string) *query {
	return queryOf(r, append(names, "space", "token", "wait")...)
}

func (q *query) fail(detail string) {
	if q.err == nil {
		q.err = badRequest(detail)
	}
}

func (q *query) limit() int {
	text := q.values.Get("limit")
	if text == "" {
		return defaultLimit
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxItems {
		q.fail(fmt.Sprintf("limit=%s: must be a number from 1 to %d", text, MaxItems))
	}
	return n
}

func (q *query) boolean(name string) bool {
	text := q.values.Get(name)
	if text == "" {
		return false
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		q.fail(fmt.Sprintf("%s=%s: must be true or false", name, text))
	}
	return b
}

// cursor returns the name that a cursor stands at; nil without one.
func (q *query) cursor() *string {
	text := q.values.Get("cursor")
	if text == "" {
		return nil
	}
	after, err := nameAt(text)
	if err != nil && q.err == nil {
		q.err = err
	}
	return &after
}

// nameAt returns the name that a cursor stands at; "" without one.
func nameAt(cursor string) (string, error) {
	name, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return "", badRequest("cursor: pass on what the answer before had, as it was")
	}
	return string(name[min(1, len(name)):]), nil
}

// cursorAt returns the cursor of a name. It is never empty, as the name may be.
func cursorAt(name *string) string {
	if name == nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte("n" + *name))
}

// path returns the key of the request, and the fields that the query names in it.
func (q *query) path(r *http.Request) []octets {
	path := []octets{octets(r.PathValue("key"))}
	for _, name := range q.values["path"] {
		path = append(path, octets(name))
	}
	if q.err == nil {
		q.err = checkPath(path)
	}
	return path
}

// orNoToken returns the error of a transaction, but for that of a token which cannot be made:
// what was asked for was done, and is answered with an empty one.
func orNoToken(err error) error {
	if errors.Is(err, peer.ErrTooManyReplicas) {
		return nil
	}
	return err
}

// data returns the space that a query names.
func (s *Server) data(q *query) (Data, error) {
	if q.err != nil {
		return nil, q.err
	}
	if !q.values.Has("space") {
		return s.peer, nil
	}
	space, err := s.peer.Space(q.values.Get("space"))
	if err != nil {
		return nil, err // and no handle, which is not nil as a Data
	}
	return space, nil
}

// await waits until the peer has seen what a request brings, as header, in the query or both, and
// returns the space that it is about.
func (s *Server) await(w http.ResponseWriter, r *http.Request, q *query) (Data, error) {
	wait := defaultWait
	if text := q.values.Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			q.fail(fmt.Sprintf("wait=%s: must be a time as 500ms or 5s; 0s asks not to wait", text))
		}
	}
	data, err := s.data(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(wait, MaxWait))
	defer cancel()
	for _, token := range slices.Concat(r.Header.Values(tokenHeader), q.values["token"]) {
		if token == "" {
			continue
		}
		if err := data.Wait(ctx, peer.Token(token)); err != nil {
			return nil, err
		}
	}
	return data, nil
}
