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
)

// dialed is an error of net's, of a connection to 10.0.0.5:7946.
func dialed(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 7946}, Err: err}
}

func called(call string, errno syscall.Errno) error { return os.NewSyscallError(call, errno) }

func unmarshal(text string, v any) error { return json.Unmarshal([]byte(text), v) }

type body struct {
	Ops []struct {
		By    *int64 `json:"by"`
		Value *string
		Path  []string `json:"path"`
		On    *bool    `json:"on"`
	} `json:"ops"`
}

// TestEachKindOfForeignErrorReadsAsWords has the errors that libraries make, where they can be made, and else their texts.
func TestEachKindOfForeignErrorReadsAsWords(t *testing.T) {
	listened := func(errno syscall.Errno) error {
		return &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 80}, Err: called("bind", errno)}
	}
	broken := &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: 1}, Addr: &net.TCPAddr{Port: 2},
		Err: called("read", syscall.ECONNRESET)}
	_, escape := url.QueryUnescape("%zz")
	for want, err := range map[string]error{
		"nothing listens on 10.0.0.5:7946":                                               dialed(called("connect", syscall.ECONNREFUSED)),
		"10.0.0.5:7946 does not answer":                                                  dialed(os.ErrDeadlineExceeded),
		"there is no way from here to 10.0.0.5:7946":                                     dialed(called("connect", syscall.EHOSTUNREACH)),
		"cannot connect to 10.0.0.5:7946: protocol error":                                dialed(called("connect", syscall.EPROTO)),
		"the other side broke the connection":                                            broken,
		"there is no host with the name nobody.invalid":                                  &net.DNSError{Err: "no such host", Name: "nobody.invalid", Server: "10.0.0.1:53"},
		"nobody knows now which host has the name oslo: the name server does not answer": &net.DNSError{Err: "server misbehaving", Name: "oslo"},
		"10.0.0.5:80 is in use: stop what listens there, or choose another address":      listened(syscall.EADDRINUSE),
		"10.0.0.5:80 is no address of this host: choose one that is":                     listened(syscall.EADDRNOTAVAIL),
		"10.0.0.5:80 may not be listened on by this user: choose a port above 1023":      listened(syscall.EACCES),

		"password file: there is no /etc/none":                 fmt.Errorf("password file: %w", &os.PathError{Op: "open", Path: "/etc/none", Err: syscall.ENOENT}),
		"file/x cannot be there: a part of its path is a file": &os.PathError{Op: "mkdir", Path: "file/x", Err: syscall.ENOTDIR},
		"this user may not use /root/x":                        &os.PathError{Op: "open", Path: "/root/x", Err: syscall.EACCES},
		"the disk of store/a.log is full":                      &os.PathError{Op: "write", Path: "store/a.log", Err: syscall.ENOSPC},
		"no client can be let in: too many files are open: raise ulimit -n, or LimitNOFILE": &net.OpError{Op: "accept", Net: "tcp",
			Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 6379}, Err: called("accept4", syscall.EMFILE)},
		"no encrypted connection with the client at 10.0.0.9:4: it asks for a certificate that it knows": errors.New("http: TLS handshake error from 10.0.0.9:4: remote error: tls: bad certificate"),

		"read the backup: it ends too early": fmt.Errorf("read the backup: %w", io.ErrUnexpectedEOF),
		"it ends too early":                  io.EOF,
		"there was no answer in time":        context.DeadlineExceeded,
		"repair: it was interrupted":         fmt.Errorf("repair: %w", context.Canceled),
		"one; two":                           errors.Join(errors.New("one"), errors.New("two"), errors.New("one")),
		"the body: ops.by must be a whole number, and is a text":                                           fmt.Errorf("the body: %w", unmarshal(`{"ops": [{"by": "x"}]}`, &body{})),
		"ops.by must be a whole number, and is the number 1.5":                                             unmarshal(`{"ops": [{"by": 1.5}]}`, &body{}),
		"ops.path must be a list, and is an object":                                                        unmarshal(`{"ops": [{"path": {}}]}`, &body{}),
		"ops.on must be true or false, and is a text":                                                      unmarshal(`{"ops": [{"on": ""}]}`, &body{}),
		"it must be an object, and is a list":                                                              unmarshal(`[]`, &body{}),
		"the JSON ends too early":                                                                          unmarshal(`{"ops": [`, &body{}),
		"no JSON: there must be no '<'":                                                                    unmarshal(`<html>`, &body{}),
		"a percent sign is followed by no two hexadecimal digits: %zz":                                     escape,
		"there is no member \"opp\"":                                                                       errors.New(`json: unknown field "opp"`),
		"what answers there does not speak TLS":                                                            errors.New("tls: first record does not look like a TLS handshake"),
		"what answers there speaks HTTP without TLS":                                                       errors.New("http: server gave HTTP response to HTTPS client"),
		"what answers there does not speak HTTP":                                                           errors.New(`malformed HTTP response "SSH-2.0"`),
		"its certificate is of an authority that is not known here":                                        errors.New("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
		"it asks for a certificate that it knows":                                                          errors.New("remote error: tls: certificate required"),
		"nothing listens on 192.0.2.1:7946":                                                                errors.New("1 error occurred:\n\t* failed to join 192.0.2.1:7946: dial tcp 192.0.2.1:7946: connect: connection refused\n\n"),
		"nothing listens on 192.0.2.1:1; 192.0.2.2:1 does not answer":                                      errors.New("2 errors occurred:\n\t* Failed to join 192.0.2.1:1: dial tcp 192.0.2.1:1: connect: connection refused\n\t* Failed to join 192.0.2.2:1: dial tcp 192.0.2.2:1: i/o timeout\n\n"),
		"over TCP: nothing listens on 10.0.0.5:7947; 10.0.0.5:7947 over QUIC: there was no answer in time": errors.New("failed to dial: failed to dial 12D3KooWA: all dials failed\n  * [/ip4/10.0.0.5/tcp/7947] dial tcp4 0.0.0.0:7947->10.0.0.5:7947: connect: connection refused\n  * [/ip4/10.0.0.5/udp/7947/quic-v1] context deadline exceeded"),
		"cannot listen: 127.0.0.1:1 is in use: stop what listens there, or choose another address":         errors.New("cannot listen: failed to listen on any addresses: [listen tcp4 127.0.0.1:1: bind: address already in use]"),
		"the stream was broken off":                                                                        errors.New("stream reset (remote), code: 0x0"),
		"the connection was closed":                                                                        errors.New("connection closed (local): code: 0x0: transport error: Application error 0x0 (local)"),
		"another host answers there: not peer 12D3KooWA, but 12D3KooWB":                                    errors.New("peer id mismatch: expected 12D3KooWA, but remote key matches 12D3KooWB"),
		"the other side speaks another version of the protocol":                                            errors.New("failed to dial 12D3KooWA: protocols not supported: [/peerd/sync/9]"),
	} {
		if got := Of(err); got != want {
			t.Errorf("%q\nreads %q\nwant  %q", err, got, want)
		}
		if again := Text(want); again != want || raw.MatchString(want) {
			t.Errorf("%q, which another host may have put in words, reads %q", want, again)
		}
	}
}

// raw is what no person is to read.
var raw = regexp.MustCompile(`\bEOF\b|\bGo (?:struct|value|type)|json:|x509:|multiaddr|/ip4/|/ip6/|errors? occurred|context |[\n\t*]|\w+\.\w+\.\w+ of type`)

func TestOwnWordsStayAsTheyAre(t *testing.T) {
	for _, text := range []string{
		"", "nothing is stored under EOFs", "DIR/none: no such file or directory", "cannot open the store in x: store is damaged",
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
