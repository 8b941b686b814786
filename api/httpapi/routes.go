package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// route is one thing that is answered, in the form of http.ServeMux. GET answers HEAD too.
type route struct {
	method, path string
	handle       http.HandlerFunc
}

func (s *Server) table() []route {
	routes := []route{
		{"GET", "/healthz", health},
		{"GET", "/readyz", s.ready},
		{"GET", "/v1/status", s.status},
		{"GET", "/v1/history", orProblem(s.answerHistory)},
		{"GET", "/v1/clients", orProblem(s.listClients)},
		{"GET", "/v1/backup", s.backup},
		{"POST", "/v1/cluster-key/rotate", orProblem(s.rotateKey)},
		{"POST", "/v1/cluster-key/retire", orProblem(s.retireKeys)},
		{"POST", "/v1/invitations", orProblem(s.invite)},
		{"GET", "/v1/members", orProblem(s.listMembers)},
		{"PUT", "/v1/members/{member}", orProblem(s.addMember)},
		{"DELETE", "/v1/members/{member}", orProblem(s.removeMember)},
		{"GET", "/v1/openapi.yaml", openAPI},
		{"GET", "/v1/keys", orProblem(s.listKeys)},
		{"GET", "/v1/keys/{key...}", orProblem(s.getKey)},
		{"PUT", "/v1/keys/{key...}", orProblem(s.putKey)},
		{"DELETE", "/v1/keys/{key...}", orProblem(s.deleteKey)},
		{"GET", "/v1/spaces", orProblem(s.listSpaces)},
		{"DELETE", "/v1/spaces/{space}", orProblem(s.dropSpace)},
		{"POST", "/v1/tx", orProblem(s.runTransaction)},
		{"GET", "/v1/watch", orProblem(s.watch)},
		{"GET", "/{$}", consoleFile("index.html", "text/html")},
		{"GET", "/console.css", consoleFile("console.css", "text/css")},
		{"GET", "/console.js", consoleFile("console.js", "text/javascript")},
	}
	if s.metrics != nil {
		routes = append(routes, route{"GET", "/metrics", s.metrics.ServeHTTP})
	}
	return routes
}

// routes answers what the table has, and says of other methods and paths that they are not there.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	allowed := map[string][]string{}
	for _, r := range s.table() {
		mux.HandleFunc(r.method+" "+r.path, r.handle)
		allowed[r.path] = append(allowed[r.path], r.method)
		if r.method == http.MethodGet {
			allowed[r.path] = append(allowed[r.path], http.MethodHead)
		}
	}
	for path, methods := range allowed {
		mux.HandleFunc(path, notAllowed(strings.Join(methods, ", ")))
	}
	mux.HandleFunc("/", notFound)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keepKey(r)
		mux.ServeHTTP(w, r)
	})
}

// keepKey makes the key in a request's path one part of it. The mux would take "a//b" or "a/../b"
// for mistyped and send the client to another key.
func keepKey(r *http.Request) {
	const before = "/v1/keys/"
	key, ok := strings.CutPrefix(r.URL.EscapedPath(), before)
	if !ok {
		return
	}
	if key == "." || key == ".." {
		key = strings.ReplaceAll(key, ".", "%2E")
	}
	u := *r.URL
	u.RawPath = before + strings.ReplaceAll(key, "/", "%2F")
	r.URL = &u
}

// orProblem answers the error of a handler that has answered nothing.
func orProblem(fn func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := fn(w, r); err != nil {
			answerProblem(w, err)
		}
	}
}

func health(w http.ResponseWriter, _ *http.Request) { answerText(w, http.StatusOK, "ok\n") }

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.peer.Ready(); err != nil {
		why := err.Error()
		if isStranger(r) {
			why = "not ready: send the password to be told why" // which may name a space, or a file
		}
		answerText(w, http.StatusServiceUnavailable, why+"\n")
		return
	}
	text := "ready\n"
	if status, err := s.peer.Status(); err == nil {
		for _, p := range status.Problems {
			text += "problem " + p.ID + "\n" // what, is for those who have the password
		}
	}
	answerText(w, http.StatusOK, text)
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	status, err := s.peer.Status()
	if err != nil {
		answerProblem(w, err)
		return
	}
	answerJSON(w, http.StatusOK, status)
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	answerError(w, http.StatusNotFound,
		"there is nothing here: /v1/openapi.yaml lists what there is")
}

func notAllowed(methods string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", methods)
		answerError(w, http.StatusMethodNotAllowed, "only "+methods+" are answered here")
	}
}

// answerJSON writes v, indented: people read it too.
func answerJSON(w http.ResponseWriter, code int, v any) { answerAs(w, code, "application/json", v) }

func answerAs(w http.ResponseWriter, code int, media string, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		answerProblem(w, refuse(http.StatusInternalServerError, "internal", "JSON cannot say the answer: "+err.Error()))
		return
	}
	send(w, code, media, append(text, '\n'))
}

func answerText(w http.ResponseWriter, code int, text string) {
	send(w, code, "text/plain; charset=utf-8", []byte(text))
}

func send(w http.ResponseWriter, code int, media string, text []byte) {
	w.Header().Set("Content-Type", media)
	w.WriteHeader(code)
	_ = write(w, text) // who has gone away is told nothing
}

// write writes a text in pieces.
func write(w http.ResponseWriter, text []byte) error {
	_, err := (&pieces{to: w}).Write(text)
	return err
}

// pieces writes a piece of maxPiece at a time: a client that reads slowly may take writeTimeout for
// each, however long making the answer took.
type pieces struct {
	to   http.ResponseWriter
	left int // of the piece whose time runs
}

// Write implements io.Writer.
func (p *pieces) Write(text []byte) (written int, err error) {
	for {
		if p.left == 0 {
			p.left = maxPiece
			_ = http.NewResponseController(p.to).SetWriteDeadline(time.Now().Add(writeTimeout)) // a recorder has none
		}
		n, err := p.to.Write(text[written:][:min(len(text)-written, p.left)])
		p.left -= n
		if written += n; err != nil || written == len(text) {
			return written, err
		}
	}
}
