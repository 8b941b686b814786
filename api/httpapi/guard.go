package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// policy lets the page use what comes from this server and nothing else: no inline script or
// style, no frames around it, no other site.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// guard refuses requests for other hosts and without a password, and adds the headers that browsers
// obey. Who has the password may use any name for this host: a page of another site has not.
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
			h.Set("Connection", "close") // its place is for others
		}
		if (s.auth == nil || refused != nil) && !namesThisHost(r) {
			answerError(w, http.StatusMisdirectedRequest,
				"this peer answers to localhost and to the address it listens on")
			return
		}
		if refused != nil && !isOpen(r.URL.Path) {
			answerUnauthorized(w, refused)
			return
		}
		next.ServeHTTP(w, r)
	})
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
