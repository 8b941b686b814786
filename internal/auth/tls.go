package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// Files names the PEM files of one end of TLS. Empty names are files that are not used.
type Files struct {
	Cert string // the own certificate, and those between it and its authority
	Key  string // its private key
	CA   string // the authority, or several, whose certificates the other end must show
}

// Empty reports whether no file is named.
func (f Files) Empty() bool { return f == Files{} }

// TLS is the server's end of TLS. Connections made before Reload stay as they are.
type TLS struct {
	files  Files
	config atomic.Pointer[tls.Config]
}

// LoadTLS reads the files. With a CA clients must show a certificate of it that is meant for
// clients.
func LoadTLS(files Files) (*TLS, error) {
	t := &TLS{files: files}
	use, err := t.Reload()
	if err != nil {
		return nil, err
	}
	use()
	return t, nil
}

// Reload reads the files again. Those read before stay in use until use is called, and after an error.
func (t *TLS) Reload() (use func(), err error) {
	if t.files.Cert == "" || t.files.Key == "" {
		return nil, errors.New("tls: a server needs a certificate and its key, both: name " +
			"--tls-cert and --tls-key")
	}
	config, err := t.files.load()
	if err != nil {
		return nil, err
	}
	if config.RootCAs != nil {
		config.ClientCAs, config.RootCAs = config.RootCAs, nil
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return func() { t.config.Store(config) }, nil
}

// Config returns a configuration that follows Reload.
func (t *TLS) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return t.config.Load(), nil
		},
	}
}

// ClientConfig reads the files for a client: CA is the authority of servers, by default those of
// the system; Cert and Key are shown to servers that ask.
func (f Files) ClientConfig() (*tls.Config, error) { return f.load() }

// load returns a configuration in which CA are the roots.
func (f Files) load() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.Cert != "" || f.Key != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: certificate %q with key %q: %w", f.Cert, f.Key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("tls: authority: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: authority: %s holds no certificate in PEM", f.CA)
		}
	}
	return config, nil
}
