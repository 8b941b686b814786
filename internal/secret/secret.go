// Package secret keeps the two secrets of a host: the key that all hosts of a cluster share, and
// the key that only this host has.
//
// The cluster key is 32 random bytes, made once by `peerd init` and copied to every host. Nothing
// uses it directly: each use has a key of its own, derived with HKDF-SHA256 (RFC 5869), so that
// what leaks from one use tells nothing about another:
//
//   - GossipKey encrypts the membership gossip;
//   - ClusterID names the cluster in protocol names; it is public, and tells nothing about the key;
//   - Proof shows another host, under fresh nonces, that this one holds the key.
//
// The host key is an ed25519 key; the host's id is derived from its public half.
//
// Both live in files that only their owner may read: a file that others can read is refused, as ssh
// does. Files appear whole or not at all, and survive a power failure once the call has returned. A
// printed or logged secret shows as "(redacted)".
//
// A cluster key is replaced while the cluster runs: a Ring is the keys that a host accepts, one of
// which is in use.
//
// Caveats: anyone who holds the cluster key is a full member; there is no way to exclude one host
// but to give all others a new key. Windows has no permission bits, so they are not checked
// there.
package secret

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// KeySize is the size of a cluster key and of everything derived from it, in bytes, ClusterID
// aside.
const KeySize = 32

const (
	prefix        = "peerd-cluster-key-" // of a line of the file; a version and a colon follow
	version       = "2"                  // the key and its checksum
	clusterIDSize = 8                    // bytes; chance that two of a million clusters share one: 3e-8
)

// What a derived key is for. Changing one splits the cluster in two: these numbers are no
// formats, and stay, so that peers of other versions are met and can be named.
const (
	forGossip = "peerd gossip key 1"
	forID     = "peerd cluster id 1"
	forProof  = "peerd proof key 1"
)

// Key is a cluster key. The zero Key is no key: IsZero reports it. Methods are pure.
type Key struct {
	redacted
	root [KeySize]byte
}

// New returns a random key.
func New() Key {
	var k Key
	_, _ = rand.Read(k.root[:]) // never fails: it ends the program instead
	return k
}

// Create makes a key and stores it in a new file at path. The error wraps fs.ErrExist if there is
// one: it is never overwritten. After any other error there is no file at path, or a whole one.
func Create(path string) (Key, error) {
	k := New()
	if err := writeNew(path, []byte(k.line())); err != nil {
		return Key{}, fmt.Errorf("create cluster key: %w", err)
	}
	return k, nil
}

// line returns the file's content.
func (k Key) line() string {
	return prefix + version + ":" + base64.RawURLEncoding.EncodeToString(summed(k.root[:])) + "\n"
}

// summed returns a key's bytes and their checksum. Any 32 bytes are a key: without it a flipped bit
// would make a host a stranger to its cluster, and nothing would tell why.
func summed(raw []byte) []byte {
	sum := crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli))
	return binary.BigEndian.AppendUint32(bytes.Clone(raw), sum)
}

// parse reads what line wrote. Its errors never hold a part of the text, which may be a secret.
func parse(text string) (Key, error) {
	versioned, ok := strings.CutPrefix(strings.TrimSpace(text), prefix)
	v, encoded, hasVersion := strings.Cut(versioned, ":")
	switch {
	case !ok || !hasVersion:
		return Key{}, errors.New("not a cluster key: copy the file from another host of the cluster")
	case v == "1":
		return Key{}, errors.New("a cluster key of format 1, from before peerd 0.1.0, and this program reads " +
			"format 2: copy the file from a host that runs this version")
	case v != version:
		return Key{}, errors.New("a cluster key of another format than 2, which this program reads: use the " +
			"newer peerd that made it, or copy the file from a host that runs this version")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	key := raw[:min(len(raw), KeySize)]
	if err != nil || len(key) != KeySize || !bytes.Equal(raw, summed(key)) ||
		strings.ContainsAny(encoded, "\r\n") {
		return Key{}, errors.New("the cluster key is damaged: copy the file from another host again")
	}
	return Key{root: [KeySize]byte(key)}, nil
}

// Expose returns the key itself, for another host of the cluster: to be sent on a stream that is
// encrypted and authenticated, and nowhere else.
func (k Key) Expose() []byte { return bytes.Clone(k.root[:]) }

// FromBytes returns the key that Expose exposed.
func FromBytes(raw []byte) (Key, error) {
	if len(raw) != KeySize || bytes.Equal(raw, make([]byte, KeySize)) {
		return Key{}, errors.New("not a cluster key")
	}
	return Key{root: [KeySize]byte(raw)}, nil
}

// IsZero reports whether k is the zero Key.
func (k Key) IsZero() bool { return k == Key{} }

// GossipKey returns the AES-256 key of the membership gossip.
func (k Key) GossipKey() [KeySize]byte { return [KeySize]byte(k.derive(forGossip, KeySize)) }

// ClusterID returns 16 hexadecimal digits that are the same on all hosts of the cluster.
func (k Key) ClusterID() string { return hex.EncodeToString(k.derive(forID, clusterIDSize)) }

// Proof returns a MAC over label and parts that only holders of the key can make. Use a label of
// its own for each message and direction, and put both ids and fresh nonces in the parts, or the
// proof can be replayed or reflected. The boundaries of the parts are covered.
func (k Key) Proof(label string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, k.derive(forProof, KeySize))
	for _, part := range append([][]byte{[]byte(label)}, parts...) {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// Verify reports whether proof is Proof(label, parts...), in time that does not depend on the
// answer.
func (k Key) Verify(proof []byte, label string, parts ...[]byte) bool {
	return hmac.Equal(proof, k.Proof(label, parts...))
}

func (k Key) derive(use string, size int) []byte {
	out, err := hkdf.Key(sha256.New, k.root[:], nil, use, size)
	if err != nil {
		panic(err) // only for sizes beyond 8,160 bytes
	}
	return out
}
