package httpapi

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// policy lets the page use what comes from this server and nothing else: no inline script or
// style, no frames around it, no other site.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// guard refuses requests for other hosts, from other sites and without a password, and adds the
// headers that browsers obey. Who has the password, or has checked this host's certificate, may use
// any name for it: with a name of its own a page of another site has neither.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		refused := s.authenticate(r)
		if refused != nil {
			h.Set("Connection", "close") // its slot is for others
		}
		trusted := r.TLS != nil || s.auth != nil && refused == nil
		if !trusted && !namesThisHost(r) {
			answerError(w, http.StatusMisdirectedRequest,
				"this peer answers to localhost and to the address it listens on")
			return
		}
		if !fromThisSite(r) {
			answerError(w, http.StatusForbidden, "a page of another site asks in a browser: "+
				"only pages of this peer, and programs that are no browsers, are answered")
			return
		}
		if refused != nil && !isOpen(r.URL.Path) {
			answerUnauthorized(w, refused)
			return
		}
		if refused == nil {
			keepSlot(r)
		} else {
			r = r.WithContext(context.WithValue(r.Context(), strangerKey{}, true))
		}
		next.ServeHTTP(w, r)
	})
}

// strangerKey is the context's key of requests without the password that others need.
type strangerKey struct{}

func isStranger(r *http.Request) bool { return r.Context().Value(strangerKey{}) != nil }

// fromThisSite reports whether a browser says that the request is this server's own page's, or its
// user's. Programs send neither header. Only the page itself may be opened by a link on another
// site.
func fromThisSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		opened := r.Method == http.MethodGet && r.URL.Path == "/" &&
			r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
		if !opened {
			return false
		}
	}
	for _, origin := range r.Header.Values("Origin") {
		at, err := url.Parse(origin)
		if err != nil || at.Host == "" || !strings.EqualFold(at.Host, r.Host) {
			return false
		}
	}
	return true
}

// namesThisHost reports whether the Host header is a loopback name or the address that the
// connection came in on. Against DNS rebinding: a page of example.com whose name suddenly means
// 127.0.0.1 sends "example.com".
func namesThisHost(r *http.Request) bool {
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap() == ip.Unmap()
}
