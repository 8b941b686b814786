// Package authtest makes the files that tests of authentication need: passwords, and certificates
// of an authority that lives as long as a test. Nothing else may import it.
package authtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/peerd/peerd/internal/auth"
)

// PasswordFile stores passwords in a file that only its owner can read, and returns its name.
func PasswordFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passwords")
	write(t, path, []byte(text))
	return path
}

// Guard returns one that knows the password.
func Guard(t testing.TB, password string) *auth.Guard {
	t.Helper()
	g, err := auth.LoadPasswords(PasswordFile(t, password))
	check(t, err)
	return g
}

// Authority signs certificates.
type Authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority returns one whose own certificate is in the file CA.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir()}
	template := certificate("authority")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	check(t, err)
	a.cert, err = x509.ParseCertificate(der)
	check(t, err)
	write(t, a.CA(), encode("CERTIFICATE", der))
	return a
}

// CA returns the file of the authority's certificate.
func (a *Authority) CA() string { return filepath.Join(a.dir, "ca.pem") }

// Issue makes a certificate for a server on 127.0.0.1 and for a client, in files named for name,
// and replaces those of a former one.
func (a *Authority) Issue(name string) auth.Files {
	a.t.Helper()
	key, template := newKey(a.t), certificate(name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	check(a.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(a.t, err)
	files := auth.Files{
		Cert: filepath.Join(a.dir, name+".pem"), Key: filepath.Join(a.dir, name+".key"), CA: a.CA(),
	}
	write(a.t, files.Cert, encode("CERTIFICATE", der))
	write(a.t, files.Key, encode("PRIVATE KEY", private))
	return files
}

// Pair returns both sides of TLS, for connections in a testing/synctest bubble too: the certificate is of the time
// of the call, and not of the bubble.
func Pair(t testing.TB) (server *auth.TLS, client *tls.Config) {
	t.Helper()
	files := NewAuthority(t).Issue("server")
	server, err := auth.LoadTLS(auth.Files{Cert: files.Cert, Key: files.Key})
	check(t, err)
	client, err = auth.Files{CA: files.CA}.ClientConfig()
	check(t, err)
	now := time.Now()
	client.ServerName, client.Time = "127.0.0.1", func() time.Time { return now }
	return server, client
}

func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // never fails
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	check(t, os.WriteFile(path, content, 0o600))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
