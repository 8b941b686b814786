package peer

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/internal/secret"
)

// handshake runs both ends of a proof and returns what each says. Every byte passes through tap, which
// may change it; 0 are those of the dialer.
func handshake(t *testing.T, dialer, acceptor func(io.ReadWriter) error, tap func(from int, b []byte)) [2]error {
	t.Helper()
	var ends, relays [2]net.Conn
	for i := range ends {
		ends[i], relays[i] = net.Pipe()
		for _, conn := range []net.Conn{ends[i], relays[i]} {
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		}
	}
	for from := range relays {
		go func() {
			buf := make([]byte, 1024)
			for {
				n, err := relays[from].Read(buf)
				if err != nil {
					relays[1-from].Close()
					return
				}
				tap(from, buf[:n])
				if _, err := relays[1-from].Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
	var errs [2]error
	done := make(chan struct{})
	go func() {
		defer close(done)
		errs[1] = acceptor(ends[1])
		ends[1].Close()
	}()
	errs[0] = dialer(ends[0])
	ends[0].Close()
	<-done
	return errs
}

func TestAStreamNeedsTheProofOfBothSides(t *testing.T) {
	const a, b, mallory = libpeer.ID("a"), libpeer.ID("b"), libpeer.ID("mallory")
	key, other := secret.New(), secret.New()
	dial := func(key secret.Key, self, to libpeer.ID) func(io.ReadWriter) error {
		return func(rw io.ReadWriter) error { return proveAsDialer(rw, key, self, to) }
	}
	accept := func(key secret.Key, self, from libpeer.ID) func(io.ReadWriter) error {
		return func(rw io.ReadWriter) error { return proveAsAcceptor(rw, key, self, from) }
	}
	pass := func(int, []byte) {}
	reflected := func(rw io.ReadWriter) error { // sends back what it gets
		_, err := io.Copy(rw, rw)
		return err
	}
	for name, test := range map[string]struct {
		dialer, acceptor func(io.ReadWriter) error
		tap              func(int, []byte)
		dials, accepts   bool // whether each side is content
	}{
		"both hold the key":         {dial(key, a, b), accept(key, b, a), pass, true, true},
		"the dialer has another":    {dial(other, a, b), accept(key, b, a), pass, false, false},
		"the acceptor has another":  {dial(key, a, b), accept(other, b, a), pass, false, false},
		"a proof for somebody else": {dial(key, a, mallory), accept(key, b, a), pass, false, false},
		"a proof of somebody else":  {dial(key, a, b), accept(key, b, mallory), pass, false, false},
		"a changed proof": {dial(key, a, b), accept(key, b, a), func(from int, sent []byte) {
			if from == 0 && len(sent) == proofSize {
				sent[0] ^= byte(len(sent)) // also the nonce: either makes the proof a wrong one
			}
		}, false, false},
	} {
		errs := handshake(t, test.dialer, test.acceptor, test.tap)
		if (errs[0] == nil) != test.dials {
			t.Errorf("%s: the dialer says %v", name, errs[0])
		}
		if (errs[1] == nil) != test.accepts {
			t.Errorf("%s: the acceptor says %v", name, errs[1])
		}
	}
	if errs := handshake(t, reflected, accept(key, b, a), pass); errs[1] == nil {
		t.Error("a dialer that only repeats what it hears is let in")
	}
}

func TestAProofThatWasHeardIsOfNoUseAgain(t *testing.T) {
	const a, b = libpeer.ID("a"), libpeer.ID("b")
	key := secret.New()
	var heard [][]byte
	errs := handshake(t,
		func(rw io.ReadWriter) error { return proveAsDialer(rw, key, a, b) },
		func(rw io.ReadWriter) error { return proveAsAcceptor(rw, key, b, a) },
		func(from int, sent []byte) {
			if from == 0 {
				heard = append(heard, bytes.Clone(sent))
			}
		})
	if errs != [2]error{} {
		t.Fatal(errs)
	}
	errs = handshake(t,
		func(rw io.ReadWriter) error {
			if _, err := rw.Write(heard[0]); err != nil {
				return err
			}
			if _, err := io.ReadFull(rw, make([]byte, nonceSize+proofSize)); err != nil {
				return err
			}
			_, err := rw.Write(heard[1])
			return err
		},
		func(rw io.ReadWriter) error { return proveAsAcceptor(rw, key, b, a) },
		func(int, []byte) {})
	if !errors.Is(errs[1], errNoProof) {
		t.Errorf("a repeated proof: %v", errs[1])
	}
}

func TestAHostThatIsNoMemberCannotConnect(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var log memory
	cfg := c.config(t.TempDir())
	cfg.Logger = log.logger()
	p := c.start(cfg)
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := openHost(key, hostConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	to := libpeer.AddrInfo{ID: p.net.id, Addrs: p.net.addrs(nil)}
	eventually(t, "the stranger is refused and named", func() bool {
		if err := stranger.Connect(t.Context(), to); err == nil {
			// With some transports the refusal comes after the handshake.
			if s, err := stranger.NewStream(t.Context(), p.net.id, streamID(syncStream, p.net.keys.ring().InUse())); err == nil {
				_ = s.SetDeadline(time.Now().Add(time.Minute))
				if proveAsDialer(s, p.net.keys.ring().InUse(), stranger.ID(), p.net.id) == nil {
					t.Fatal("a host that is no member has a stream, though with the key")
				}
			}
		}
		_ = stranger.Network().ClosePeer(p.net.id)
		return log.says("the host is not a member of this cluster") && log.says(stranger.ID().String())
	})
}
