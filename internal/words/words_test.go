package words

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// dialed is an error of net's, of a connection to 10.0.0.5:7946.
func dialed(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5),
		Port: 7946}, Err: err}
}

func called(call string, errno syscall.Errno) error { return os.NewSyscallError(call, errno) }

func listened(at *net.TCPAddr, errno syscall.Errno) error {
	return &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: called("bind", errno)}
}

func unmarshal(text string) error { return json.Unmarshal([]byte(text), new(body)) }

type body struct {
	Ops []struct {
		By    *int64 `json:"by"`
		Value *string
		Path  []string `json:"path"`
		On    *bool    `json:"on"`
	} `json:"ops"`
	Until     *time.Time `json:"until"`
	Registers []byte     `json:"registers"`
	Token     Token      `json:"token"`
}

// Token is a text of a named type.
type Token string

func path(op, name string, errno syscall.Errno) error {
	return &os.PathError{Op: op, Path: name, Err: errno}
}

func socket(op string, at *net.TCPAddr, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: at, Err: called(op, errno)}
}

// TestErrorsOfTheStandardLibraryReadAsWords has the errors as they are made.
func TestErrorsOfTheStandardLibraryReadAsWords(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 80}
	_, escape := url.QueryUnescape("%zz")
	for _, test := range []struct {
		err  error
		want string
	}{
		{dialed(called("connect", syscall.ECONNREFUSED)), "nothing listens on 10.0.0.5:7946"},
		{dialed(os.ErrDeadlineExceeded), "10.0.0.5:7946 does not answer"},
		{dialed(called("connect", syscall.EHOSTUNREACH)), "there is no way from here to 10.0.0.5:7946"},
		{dialed(called("connect", syscall.EPROTO)), "cannot connect to 10.0.0.5:7946: protocol error"},
		{socket("read", at, syscall.ECONNRESET), "the other side broke the connection"},
		{&net.DNSError{Err: "no such host", Name: "oslo.invalid", Server: "10.0.0.1:53"},
			"there is no host with the name oslo.invalid"},
		{&net.DNSError{Err: "server misbehaving", Name: "oslo"},
			"nobody knows now which host has the name oslo: the name server does not answer"},
		{listened(at, syscall.EADDRINUSE),
			"10.0.0.5:80 is in use: stop what listens there, or choose another address"},
		{listened(at, syscall.EADDRNOTAVAIL),
			"10.0.0.5:80 is no address of this host: choose one that is"},
		{listened(at, syscall.EACCES),
			"10.0.0.5:80 may not be listened on by this user: choose a port above 1023"},
		{&net.OpError{Op: "accept", Net: "tcp", Addr: at, Err: called("accept4", syscall.EMFILE)},
			"no client can be let in: too many files are open: raise ulimit -n, or LimitNOFILE"},

		{fmt.Errorf("password file: %w", path("open", "/x", syscall.ENOENT)), "password file: there is no /x"},
		{path("mkdir", "f/x", syscall.ENOTDIR), "f/x cannot be there: a part of its path is a file"},
		{path("open", "/srv/x", syscall.EACCES), "this user may not use /srv/x"},
		{path("write", "store/a.log", syscall.ENOSPC), "the disk of store/a.log is full"},

		{fmt.Errorf("read the backup: %w", io.ErrUnexpectedEOF), "read the backup: it ends too early"},
		{io.EOF, "it ends too early"},
		{context.DeadlineExceeded, "there was no answer in time"},
		{fmt.Errorf("repair: %w", context.Canceled), "repair: it was interrupted"},
		{errors.Join(errors.New("one"), errors.New("two"), errors.New("one")), "one; two"},

		{fmt.Errorf("the body: %w", unmarshal(`{"ops": [{"by": "x"}]}`)),
			"the body: ops.by must be a whole number, and is a text"},
		{unmarshal(`{"ops": [{"by": 1.5}]}`), "ops.by must be a whole number, and is the number 1.5"},
		{unmarshal(`{"ops": [1]}`), "ops must be an object, and is a number"},
		{unmarshal(`{"ops": [{"path": {}}]}`), "ops.path must be a list, and is an object"},
		{unmarshal(`{"ops": [{"on": ""}]}`), "ops.on must be true or false, and is a text"},
		{unmarshal(`{"token": 5}`), "token must be a text, and is a number"},
		{unmarshal(`{"registers": 5}`), "registers must be a text in base64, and is a number"},
		{unmarshal(`{"registers": "A!"}`), "no standard base64, at byte 1"},
		{unmarshal(`{"until": "to\"morrow"}`), `"to\\\"morrow" is no time as 2026-12-24T18:00:00Z`},
		{unmarshal(`{"until": "2026-12-24T18:00:00Z and more"}`), `"2026-12-24T18:00:00Z and more" is no time as 2026-12-24T18:00:00Z`},
		{unmarshal(`{"until": "2026-02-30T18:00:00Z"}`), `"2026-02-30T18:00:00Z" is no time: day out of range`},
		{unmarshal(`{"until": 1767225600}`), `a time must be a text as "2026-12-24T18:00:00Z"`},
		{unmarshal(`[]`), "it must be an object, and is a list"},
		{unmarshal(`{"ops": [`), "the JSON ends too early"},
		{unmarshal(`<html>`), "no JSON: there must be no '<'"},
		{escape, "a percent sign is followed by no two hexadecimal digits: %zz"},
	} {
		reads(t, test.err.Error(), test.want)
	}
}

// TestErrorsOfLibrariesReadAsWords has the texts of errors that are not easily made here.
func TestErrorsOfLibrariesReadAsWords(t *testing.T) {
	for _, test := range [][2]string{
		{`json: unknown field "opp"`, `there is no member "opp"`},
		{"tls: first record does not look like a TLS handshake", "what answers there does not speak TLS"},
		{"http: server gave HTTP response to HTTPS client", "what answers there speaks HTTP without TLS"},
		{`malformed HTTP response "SSH-2.0"`, "what answers there does not speak HTTP"},
		{"tls: failed to verify certificate: x509: certificate signed by unknown authority",
			"its certificate is of an authority that is not known here"},
		{"remote error: tls: certificate required", "it asks for a certificate that it knows"},
		{"http: TLS handshake error from 10.0.0.9:4: remote error: tls: bad certificate",
			"no encrypted connection with the client at 10.0.0.9:4: it asks for a certificate that it knows"},

		{"1 error occurred:\n\t* failed to join 10.0.0.5:1: dial tcp 10.0.0.5:1: connect: connection refused\n\n",
			"nothing listens on 10.0.0.5:1"},
		{"2 errors occurred:\n\t* Failed to join 10.0.0.5:1: dial tcp 10.0.0.5:1: connect: connection refused\n" +
			"\t* Failed to join 10.0.0.6:1: dial tcp 10.0.0.6:1: i/o timeout\n\n",
			"nothing listens on 10.0.0.5:1; 10.0.0.6:1 does not answer"},

		{"failed to dial: failed to dial 12D3KooWA: all dials failed\n" +
			"  * [/ip4/10.0.0.5/tcp/7947] dial tcp4 0.0.0.0:7947->10.0.0.5:7947: connect: connection refused\n" +
			"  * [/ip4/10.0.0.5/udp/7947/quic-v1] context deadline exceeded",
			"over TCP: nothing listens on 10.0.0.5:7947; " +
				"10.0.0.5:7947 over QUIC: there was no answer in time"},
		{"cannot listen: failed to listen on any addresses: [listen tcp4 127.0.0.1:1: bind: address already in use]",
			"cannot listen: 127.0.0.1:1 is in use: stop what listens there, or choose another address"},
		{"failed to dial: failed to dial 12D3KooWA: all dials failed\n" +
			"  * [/ip6/fd00::5/tcp/7947] dial tcp6 [::]:7947->[fd00::5]:7947: connect: connection refused\n" +
			"  * [/ip6/fd00::5/udp/7947/quic-v1] timeout: no recent network activity",
			"over TCP: nothing listens on [fd00::5]:7947; [fd00::5]:7947 over QUIC: nothing came from the other side any more"},
		{"failed to negotiate security protocol: message did not have trailing newline",
			"no encrypted connection: what answers there is no peer"},
		{"stream reset (remote): code: 0x0", "the stream was broken off"},
		{"stream reset (remote): code: 0x1005: transport error: stream 4 canceled by remote with error code 4101",
			"the stream was broken off"},
		{"connection closed (local): code: 0x0: transport error: Application error 0x0 (local)",
			"the connection was closed"},
		{"peer id mismatch: expected 12D3KooWA, but remote key matches 12D3KooWB",
			"another host answers there: not peer 12D3KooWA, but 12D3KooWB"},
		{"failed to dial 12D3KooWA: protocols not supported: [/peerd/sync/9]",
			"the other side does not serve that: it is stopping, or has another cluster key or version of the protocol"},
	} {
		reads(t, test[0], test[1])
	}
}

func reads(t *testing.T, text, want string) {
	t.Helper()
	if got := Text(text); got != want {
		t.Errorf("%q\nreads %q\nwant  %q", text, got, want)
	}
	if again := Text(want); again != want || raw.MatchString(want) {
		t.Errorf("%q, which another host may have put in words, reads %q", want, again)
	}
}

// raw is what no person is to read.
var raw = regexp.MustCompile(`\bEOF\b|\bGo (?:struct|value|type)|json:|x509:|multiaddr|/ip4/|/ip6/|errors? occurred|context |[\n\t*]|\w+\.\w+\.\w+ of type`)

func TestOwnWordsStayAsTheyAre(t *testing.T) {
	for _, text := range []string{
		"", "nothing is stored under EOFs", "DIR/none: no such file or directory", "cannot open the " +
			"store in x: store is damaged",
		"there is no cluster key in /etc/x: copy it from a host of the cluster",
		`--http "x": must be ip:port, as 127.0.0.1:6379, or off; --advertise "y": must be an IP address as other hosts reach it`,
		"value is not an integer or out of range",
	} {
		if got := Text(text); got != text {
			t.Errorf("%q reads %q", text, got)
		}
	}
	if Of(nil) != "" {
		t.Error("no error has words")
	}
}

func TestAnAttributeOfTheLogHasWords(t *testing.T) {
	if got := Attr(slog.Any("error", io.EOF)).Value.String(); got != "it ends too early" {
		t.Errorf("the error reads %q", got)
	}
	if got := Attr(slog.String("text", "opening the log: unexpected EOF")).Value.String(); got != "opening the log: it ends too early" {
		t.Errorf("what a library says reads %q", got)
	}
	if got := Attr(slog.String("name", "x: EOF")).Value.String(); got != "x: EOF" {
		t.Errorf("a name reads %q", got)
	}
	if got := Attr(slog.Int("n", 3)).Value.Int64(); got != 3 {
		t.Errorf("the number is %d", got)
	}
}
