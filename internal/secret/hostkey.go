package secret

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
)

const pemType = "PRIVATE KEY" // PKCS #8, as openssl and ssh-keygen read it

// HostKey is the ed25519 key of one host. The zero HostKey is no key.
type HostKey struct {
	redacted
	private ed25519.PrivateKey
}

// NewHostKey returns a random key.
func NewHostKey() HostKey {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // rand.Reader never fails: it ends the program instead
	}
	return HostKey{private: private}
}

// Create stores the key in a new file at path. The error wraps fs.ErrExist if there is one: it is
// never overwritten. After any other error there is no file at path, or a whole one.
func (k HostKey) Create(path string) error {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		panic(err) // only for key types unknown to x509
	}
	if err := writeNew(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})); err != nil {
		return fmt.Errorf("create host key: %w", err)
	}
	return nil
}

// CreateHostKey makes a key and stores it, as Create does.
func CreateHostKey(path string) (HostKey, error) {
	k := NewHostKey()
	if err := k.Create(path); err != nil {
		return HostKey{}, err
	}
	return k, nil
}

// LoadHostKey reads a key: an ed25519 key as PKCS #8 in PEM. The error wraps fs.ErrNotExist if
// there is no file.
func LoadHostKey(path string) (HostKey, error) {
	text, err := ReadPrivate(path)
	if err != nil {
		return HostKey{}, fmt.Errorf("load host key: %w", err)
	}
	k, err := parseHostKey(text)
	if err != nil {
		return HostKey{}, fmt.Errorf("load host key: %s: %w: put back a copy of the file, or remove it: "+
			"this host is then a new member", path, err)
	}
	return k, nil
}

// OpenHostKey loads the key at path, or creates one if there is no file. Of processes that do so at
// once all get the same key.
func OpenHostKey(path string) (HostKey, error) {
	k, err := LoadHostKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	k, err = CreateHostKey(path)
	if errors.Is(err, fs.ErrExist) {
		return LoadHostKey(path)
	}
	return k, err
}

// parseHostKey reads one PEM block. Its errors never hold a part of the text.
func parseHostKey(text []byte) (HostKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return HostKey{}, errors.New("not a private key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return HostKey{}, errors.New("the private key is damaged")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return HostKey{}, errors.New("a private key of another kind: it must be ed25519")
	}
	return HostKey{private: private}, nil
}

// IsZero reports whether k is the zero HostKey.
func (k HostKey) IsZero() bool { return k.private == nil }

// Private returns the key itself, which prints as it is: do not log it. It must not be changed.
func (k HostKey) Private() ed25519.PrivateKey { return k.private }

// Public returns the public half, or nil for the zero HostKey. It must not be changed.
func (k HostKey) Public() ed25519.PublicKey {
	if k.IsZero() {
		return nil
	}
	return k.private.Public().(ed25519.PublicKey)
}
