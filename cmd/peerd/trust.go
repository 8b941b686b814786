package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/peerd/peerd/internal/auth"
	"github.com/peerd/peerd/peer"
)

// trust says whom a daemon takes for a client, and how a command shows that it is one.
type trust struct {
	passwordFile string // empty: no password
	tls          auth.Files
}

// trustFlags are the settings of trust.
var trustFlags = []string{"password-file", "tls-cert", "tls-key", "tls-ca"}

// beyondLoopback reports whether clients are asked who they are, so that others than those on this
// host may connect.
func (t trust) beyondLoopback() bool { return t.passwordFile != "" || t.tls.CA != "" }

// off is the address of a front-end that is not served.
const off = "off"

// checkAddr returns the address of a front-end as "ip:port", or off, or an error if it is none or
// one that others reach without saying who they are.
func (t trust) checkAddr(setting, addr string) (string, error) {
	wrong := func(reason string) error {
		return &peer.ConfigError{Field: setting, Value: addr, Reason: reason}
	}
	if addr == off {
		return off, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", wrong("must be ip:port, as 127.0.0.1:6379, or off")
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "":
		host = "::"
	}
	at, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	switch {
	case err != nil:
		return "", wrong("must be ip:port, as 127.0.0.1:6379, or off")
	case at.Addr().IsLoopback() || t.beyondLoopback():
		return at.String(), nil
	}
	return "", wrong("refused beyond loopback as long as everybody there would be let in: ask for a " +
		"password with --password-file, or for certificates with --tls-cert, --tls-key and --tls-ca; or " +
		"listen on 127.0.0.1:" + port)
}

// validate reports a file of TLS that is of no use to a daemon without another.
func (t trust) validate() error {
	wrong := func(setting, file, reason string) error {
		return &peer.ConfigError{Field: setting, Value: file, Reason: reason}
	}
	switch {
	case t.tls.Cert != "" && t.tls.Key == "":
		return wrong("tls-cert", t.tls.Cert, "needs the certificate's key: name it with --tls-key")
	case t.tls.Key != "" && t.tls.Cert == "":
		return wrong("tls-key", t.tls.Key, "needs its certificate: name it with --tls-cert")
	case t.tls.CA != "" && t.tls.Cert == "":
		return wrong("tls-ca", t.tls.CA, "needs a certificate of this host: name --tls-cert and --tls-key")
	}
	return nil
}

// scheme returns how a URL of the daemon begins.
func (t trust) scheme() string {
	if t.tls.Empty() {
		return "http://"
	}
	return "https://"
}

// redisFlags returns what redis-cli needs besides host and port.
func (t trust) redisFlags() (flags string) {
	if !t.tls.Empty() {
		flags += " --tls"
	}
	if t.tls.CA != "" {
		flags += " --cert … --key …" // the client's own: this host's may be no client's
	}
	if t.passwordFile != "" {
		flags += " --askpass"
	}
	return flags
}

// credentials are the files of trust, as read. Nil are those that are not used.
type credentials struct {
	guard *auth.Guard
	tls   *auth.TLS
}

// load reads the files.
func (t trust) load() (c credentials, err error) {
	var errs [2]error
	if t.passwordFile != "" {
		c.guard, errs[0] = auth.LoadPasswords(t.passwordFile)
	}
	if !t.tls.Empty() {
		c.tls, errs[1] = auth.LoadTLS(t.tls)
	}
	return c, errors.Join(errs[:]...)
}

// reload reads the files again. All are as before until use is called, and after an error in one.
func (c credentials) reload() (use func(), err error) {
	usePasswords, useTLS := func() {}, func() {}
	var errs [2]error
	if c.guard != nil {
		usePasswords, errs[0] = c.guard.Reload()
	}
	if c.tls != nil {
		useTLS, errs[1] = c.tls.Reload()
	}
	return func() { usePasswords(); useTLS() }, errors.Join(errs[:]...)
}

// secure returns a listener for TLS, or l itself without.
func (c credentials) secure(l net.Listener) net.Listener {
	if c.tls == nil {
		return l
	}
	return tls.NewListener(l, c.tls.Config())
}

// warn says what is risky in the addresses.
func (c credentials) warn(log *slog.Logger, listeners ...net.Listener) {
	for _, l := range listeners {
		if l == nil {
			continue
		}
		at, err := netip.ParseAddrPort(l.Addr().String())
		if err == nil && !at.Addr().IsLoopback() && c.tls == nil {
			log.Warn("passwords and data of clients cross the network in the clear: "+
				"use --tls-cert and --tls-key", "addr", at.String())
		}
	}
}
