package auth_test

import (
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/peerd/peerd/internal/auth"
	"github.com/peerd/peerd/internal/auth/authtest"
)

// shakeHands returns the certificate that the server showed, and what each end says.
func shakeHands(t *testing.T, server *auth.TLS, client auth.Files) (name string, errs [2]error) {
	t.Helper()
	config, err := client.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.ServerName = "127.0.0.1"
	l, err := tls.Listen("tcp", "127.0.0.1:0", server.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answered := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
		answered <- err
	}()
	socket, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(socket, config)
	errs[1] = conn.Handshake()
	if errs[1] == nil {
		name = conn.ConnectionState().PeerCertificates[0].Subject.CommonName
		_, _ = conn.Read(make([]byte, 1)) // in TLS 1.3 the server's refusal comes after the handshake
	}
	conn.Close()
	errs[0] = <-answered
	return name, errs
}

func TestOnlyClientsWithACertificateOfTheAuthorityAreLetIn(t *testing.T) {
	ours, others := authtest.NewAuthority(t), authtest.NewAuthority(t)
	server, err := auth.LoadTLS(ours.Issue("server"))
	if err != nil {
		t.Fatal(err)
	}
	good := ours.Issue("client")
	foreign := others.Issue("client")
	foreign.CA = ours.CA()
	for name, test := range map[string]struct {
		client auth.Files
		want   string // in the server's error
	}{
		"a certificate of the authority": {good, ""},
		"none":                           {auth.Files{CA: ours.CA()}, "didn't provide a certificate"},
		"one of another authority":       {foreign, "unknown authority"},
	} {
		_, errs := shakeHands(t, server, test.client)
		if (errs[0] == nil) != (test.want == "") ||
			errs[0] != nil && !strings.Contains(errs[0].Error(), test.want) {
			t.Errorf("a client with %s: %v, want %q", name, errs[0], test.want)
		}
	}
	if _, errs := shakeHands(t, server, auth.Files{CA: others.CA(), Cert: good.Cert, Key: good.Key}); errs[1] == nil {
		t.Error("a client trusts a server of another authority")
	}
}

func TestWithoutAnAuthorityClientsNeedNoCertificate(t *testing.T) {
	authority := authtest.NewAuthority(t)
	files := authority.Issue("server")
	files.CA = ""
	server, err := auth.LoadTLS(files)
	if err != nil {
		t.Fatal(err)
	}
	if _, errs := shakeHands(t, server, auth.Files{CA: authority.CA()}); errs != [2]error{} {
		t.Error(errs)
	}
}

func TestANewCertificateIsTakenOverAndADamagedOneIsNot(t *testing.T) {
	authority := authtest.NewAuthority(t)
	files := authority.Issue("server")
	server, err := auth.LoadTLS(files)
	if err != nil {
		t.Fatal(err)
	}
	client := authority.Issue("client")
	renewed := authority.Issue("renewed")
	replaceFile(t, renewed.Cert, files.Cert)
	if _, err := server.Reload(); err == nil {
		t.Error("a certificate was taken over without its key")
	}
	if name, errs := shakeHands(t, server, client); name != "server" {
		t.Errorf("after a failed reload the server shows %q (%v)", name, errs)
	}
	replaceFile(t, renewed.Key, files.Key)
	use, err := server.Reload()
	if err != nil {
		t.Fatal(err)
	}
	use()
	if name, errs := shakeHands(t, server, client); name != "renewed" {
		t.Errorf("after a reload the server shows %q (%v)", name, errs)
	}
}

func TestFilesOfTLSThatAreNoneAreNamed(t *testing.T) {
	files := authtest.NewAuthority(t).Issue("server")
	for want, wrong := range map[string]auth.Files{
		"a server needs a certificate and its key, both": {Cert: files.Cert},
		"no such file":                {Cert: files.Cert, Key: files.Key + ".none"},
		"holds no certificate in PEM": {Cert: files.Cert, Key: files.Key, CA: files.Key},
	} {
		if _, err := auth.LoadTLS(wrong); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", wrong, err, want)
		}
	}
}

func replaceFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
