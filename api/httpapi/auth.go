package httpapi

import (
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/peerd/peerd/internal/auth"
)

// isOpen reports whether a path is answered without a password: what load balancers ask, who have
// none. It tells nothing of the data.
func isOpen(path string) bool { return path == "/healthz" || path == "/readyz" }

// authenticate returns nil if the request has the password, or needs none. Programs send it as a
// bearer token; browsers, for the page, in the way of Basic with any name.
func (s *Server) authenticate(r *http.Request) error {
	if s.auth == nil {
		return nil
	}
	password, given := bearer(r)
	if !given {
		_, password, given = r.BasicAuth()
	}
	if !given {
		return errNoPassword
	}
	at, _ := netip.ParseAddrPort(r.RemoteAddr) // zero if it is none: then all such count as one
	return s.auth.Check(at.Addr(), []byte(password))
}

var errNoPassword = errors.New("this peer asks for a password: " +
	"send it in the header \"Authorization: Bearer PASSWORD\"")

func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, ok && strings.EqualFold(scheme, "Bearer")
}

// answerUnauthorized says what is missing, or how long to wait.
func answerUnauthorized(w http.ResponseWriter, refused error) {
	var wait auth.WaitError
	if errors.As(refused, &wait) {
		seconds := math.Ceil(wait.Wait.Seconds())
		w.Header().Set("Retry-After", strconv.FormatFloat(seconds, 'f', 0, 64))
		answerError(w, http.StatusTooManyRequests, refused.Error())
		return
	}
	// A line each: of several in one line Chromium takes the first, which it does not know, and asks
	// nobody.
	w.Header().Add("WWW-Authenticate", `Bearer realm="peerd"`)
	w.Header().Add("WWW-Authenticate", `Basic realm="peerd", charset="UTF-8"`)
	answerError(w, http.StatusUnauthorized, refused.Error())
}
