package peer

import (
	"crypto/rand"
	"errors"
	"io"

	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/internal/secret"
)

// Every stream begins with a proof by each side that it holds the cluster's secret: an HMAC over the ids of
// both, which the connection has authenticated, and a fresh nonce of each.
//
//	dialer   → nonce
//	acceptor → nonce, proof
//	dialer   → proof

const (
	nonceSize    = 32
	proofSize    = 32
	labelDialer  = "peerd stream dialer"
	labelAnswers = "peerd stream acceptor"
)

// errNotAllowed is returned for a host that Config.Allow does not name.
var errNotAllowed = errors.New("the other host is not on the list of allowed peers")

// errNoProof is returned when the other side does not prove that it holds the secret.
var errNoProof = errors.New("the other host did not prove that it holds the cluster's key")

// proveAsDialer proves this side on a stream that it opened, and checks the other.
func proveAsDialer(rw io.ReadWriter, key secret.Key, self, other libpeer.ID) error {
	var mine, theirs [nonceSize]byte
	_, _ = rand.Read(mine[:]) // never fails
	if _, err := rw.Write(mine[:]); err != nil {
		return err
	}
	var proof [proofSize]byte
	if _, err := io.ReadFull(rw, theirs[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(rw, proof[:]); err != nil {
		return err
	}
	parts := [][]byte{[]byte(self), []byte(other), mine[:], theirs[:]}
	if !key.Verify(proof[:], labelAnswers, parts...) {
		return errNoProof
	}
	_, err := rw.Write(key.Proof(labelDialer, parts...))
	return err
}

// proveAsAcceptor is the other end of proveAsDialer.
func proveAsAcceptor(rw io.ReadWriter, key secret.Key, self, other libpeer.ID) error {
	var mine, theirs [nonceSize]byte
	if _, err := io.ReadFull(rw, theirs[:]); err != nil {
		return err
	}
	_, _ = rand.Read(mine[:]) // never fails
	parts := [][]byte{[]byte(other), []byte(self), theirs[:], mine[:]}
	if _, err := rw.Write(append(mine[:], key.Proof(labelAnswers, parts...)...)); err != nil {
		return err
	}
	var proof [proofSize]byte
	if _, err := io.ReadFull(rw, proof[:]); err != nil {
		return err
	}
	if !key.Verify(proof[:], labelDialer, parts...) {
		return errNoProof
	}
	return nil
}
