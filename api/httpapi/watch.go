package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/peerd/peerd/peer"
)

const (
	// MaxWatches is how many watches are served at once: the other connections stay free for
	// requests. One more is answered with 503.
	MaxWatches = 128
	// keepAlive is how often a silent watch sends its token: a connection that is gone is
	// noticed, and who comes back after a long silence asks for no more of the log than need be.
	keepAlive = 15 * time.Second
	// reconnect is how long an EventSource waits before it comes back, in milliseconds.
	reconnect = 1000
	// beginning is the id that stands for the empty token: an EventSource sends no empty id back.
	beginning = "0"
)

// event is the data of an event. Keys and token have the meaning of peer.Change.
type event struct {
	Keys  []octets   `json:"keys"`
	Token peer.Token `json:"token,omitempty"`
}

// watch sends which keys change, as server-sent events, until the client leaves or the server ends.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	q := dataQueryOf(r, "prefix", "since")
	data, err := s.await(w, r, q)
	if err != nil {
		return err
	}
	watch, err := openWatch(r, q, data)
	if err != nil {
		return err
	}
	defer watch.Close()
	if err := hasTokens(r.Context(), data, watch); err != nil {
		return err
	}
	if err := s.watches.add(watch); err != nil {
		return err
	}
	defer s.watches.remove(watch)
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return write(w, nil)
	}
	out := events{w: w, control: http.NewResponseController(w), share: shareOf(r)}
	_ = out.control.SetReadDeadline(time.Time{}) // the client sends nothing more
	out.follow(r.Context(), watch)
	return nil
}

// hasTokens returns an error if the watch could not say where a client is to go on: where it
// begins, or where its space is; or if the space was dropped here, so that it would end at once.
func hasTokens(ctx context.Context, data Data, watch tokens) error {
	if _, err := watch.Token(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	_, err := data.ViewToken(ctx, func(*peer.Tx) error { return nil })
	if errors.Is(err, peer.ErrTooManyReplicas) || errors.Is(err, peer.ErrNotHeld) {
		return err
	}
	return nil // a watch waits where data cannot be read now
}

// tokens is what follow asks a watch for: a *peer.Watch.
type tokens interface {
	Next(ctx context.Context) (peer.Change, error)
	Token() (peer.Token, error)
}

// watches is the open ones.
type watches struct {
	mu    sync.Mutex
	open  map[*peer.Watch]struct{}
	ended bool
}

func (ws *watches) add(w *peer.Watch) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	switch {
	case ws.ended:
		return peer.ErrClosed
	case len(ws.open) >= MaxWatches:
		return refuse(http.StatusServiceUnavailable, "too-many-watches", fmt.Sprintf(
			"%d watches are open already (MaxWatches): close some, or watch at another peer", MaxWatches))
	case ws.open == nil:
		ws.open = map[*peer.Watch]struct{}{}
	}
	ws.open[w] = struct{}{}
	return nil
}

func (ws *watches) remove(w *peer.Watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.open, w)
}

// end ends all of them: a server that shuts down waits for its answers.
func (ws *watches) end() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.ended = true
	for w := range ws.open {
		w.Close()
	}
}

// openWatch begins where the client was: at the event that it had last, or at the token that it
// names, or now.
func openWatch(r *http.Request, q *query, data Data) (*peer.Watch, error) {
	prefix := q.values.Get("prefix")
	since := r.Header.Get("Last-Event-ID")
	switch {
	case since != "":
	case q.values.Has("since"):
		since = q.values.Get("since")
	default:
		return data.Watch(prefix), nil
	}
	if since == beginning {
		since = ""
	}
	return data.WatchSince(prefix, peer.Token(since))
}

// events writes server-sent events. A client that does not take maxPiece of one within writeTimeout is cut off.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	share   *share // has what an event takes while it is sent
}

// follow sends the changes. After an error of the connection or the watch it returns: a client
// comes back with the last token that it got. If tokens become too long meanwhile, or all requests
// hold too much for a change, it is told so.
func (s *events) follow(ctx context.Context, watch tokens) {
	token, err := watch.Token()
	if err != nil || s.send("open", event{Keys: []octets{}, Token: token}) != nil {
		return
	}
	for {
		limited, cancel := context.WithTimeout(ctx, keepAlive)
		c, err := watch.Next(limited)
		cancel()
		switch {
		case err == nil:
			if err = s.change(c); err == nil && c.Token == "" {
				_, err = watch.Token() // there is one before a reset is complete
			}
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			err = s.idle(watch)
		}
		if errors.Is(err, peer.ErrTooManyReplicas) || errors.Is(err, errBusy) {
			_ = s.problem(problemOf(err)) // the end of the connection says the rest
		}
		if err != nil {
			return
		}
	}
}

func (s *events) problem(p *problem) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.end(&pieces{to: s.w}, fmt.Sprintf("event: problem\ndata: %s\n", data), "")
}

func (s *events) change(c peer.Change) error {
	e := event{Keys: make([]octets, len(c.Keys)), Token: c.Token}
	size := 0
	for i, key := range c.Keys {
		e.Keys[i] = octets(key)
		size += len(key) + memberSize
	}
	defer s.share.give(size)
	if busy := s.share.take(size); busy != nil {
		return busy
	}
	if c.Reset {
		return s.send("reset", e)
	}
	return s.send("change", e)
}

func (s *events) send(name string, e event) error {
	out, begin, id := &pieces{to: s.w}, "", string(e.Token) // none while a listing is not complete
	if name == "open" {
		begin, id = fmt.Sprintf("retry: %d\n", reconnect), idOf(e.Token)
	}
	if _, err := fmt.Fprintf(out, "%sevent: %s\ndata: ", begin, name); err != nil {
		return err
	}
	if err := encodeTo(out, "", e); err != nil {
		return err
	}
	return s.end(out, "\n", id)
}

// idOf returns the id of an event up to whose token all was told.
func idOf(token peer.Token) string { return cmp.Or(string(token), beginning) }

// idle sends the token alone: an event without data only changes where the client will go on.
func (s *events) idle(watch tokens) error {
	token, err := watch.Token()
	if err != nil {
		return err
	}
	return s.end(&pieces{to: s.w}, ": nothing has changed\n", idOf(token))
}

// end writes the end of an event, with its id if it has one, and sends what was written.
func (s *events) end(out io.Writer, text, id string) error {
	if id != "" {
		text += fmt.Sprintf("id: %s\n", id)
	}
	if _, err := io.WriteString(out, text+"\n"); err != nil {
		return err
	}
	return s.control.Flush()
}
