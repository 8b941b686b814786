package httpapi

import (
	"encoding/json"
	"io"
	"net/http"
)

// routes answers GET, and with it HEAD, for each path.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, fn http.HandlerFunc) {
		mux.HandleFunc("GET "+path, fn)
		mux.HandleFunc(path, notAllowed)
	}
	get("/healthz", health)
	get("/readyz", s.ready)
	get("/v1/status", s.status)
	get("/v1/backup", s.backup)
	if s.metrics != nil {
		get("/metrics", s.metrics.ServeHTTP)
	}
	get("/{$}", pageFile("page.html", "text/html"))
	get("/page.css", pageFile("page.css", "text/css"))
	get("/page.js", pageFile("page.js", "text/javascript"))
	mux.HandleFunc("/", notFound)
	return mux
}

func health(w http.ResponseWriter, _ *http.Request) { answerText(w, http.StatusOK, "ok\n") }

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.peer.Ready(); err != nil {
		answerText(w, http.StatusServiceUnavailable, err.Error()+"\n")
		return
	}
	answerText(w, http.StatusOK, "ready\n")
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	status, err := s.peer.Status()
	if err != nil {
		answerError(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answerJSON(w, http.StatusOK, status)
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	answerError(w, http.StatusNotFound,
		"there is nothing here: see /healthz, /readyz, /v1/status and /")
}

func notAllowed(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Allow", "GET, HEAD")
	answerError(w, http.StatusMethodNotAllowed, "only GET and HEAD are answered here")
}

func answerError(w http.ResponseWriter, code int, text string) {
	answerJSON(w, code, map[string]string{"error": text})
}

// answerJSON writes v, indented: people read it too.
func answerJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(v) // only the connection can fail
}

func answerText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text)
}
