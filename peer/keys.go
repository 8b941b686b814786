package peer

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/internal/secret"
)

// File names in the data directory.
const (
	hostKeyFile    = "host.key"
	clusterKeyFile = "cluster.key"
)

// Keys are the files that identify a host and its cluster.
type Keys struct {
	HostKey    string // path of the host's ed25519 key
	ClusterKey string // path of the cluster's secret, which every host of it needs a copy of
	Created    bool   // whether that was made now
	PeerID     string // of this host, as Config.Allow names it
}

// Init makes the data directory, the host's key, and the cluster's secret where it is missing, as Open does.
// It returns ErrNoClusterKey if cfg.Join is set and there is no secret.
func Init(cfg Config) (Keys, error) {
	_, _, keys, err := loadKeys(cfg.withDefaults())
	return keys, err
}

func loadKeys(cfg Config) (secret.HostKey, secret.Ring, Keys, error) {
	if cfg.Memory {
		return memoryKeys(cfg)
	}
	keys := Keys{HostKey: filepath.Join(cfg.Dir, hostKeyFile), ClusterKey: cfg.ClusterKey}
	named := keys.ClusterKey != ""
	if !named {
		keys.ClusterKey = filepath.Join(cfg.Dir, clusterKeyFile)
	}
	var none secret.HostKey
	cluster, err := secret.Load(keys.ClusterKey)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && len(cfg.Join) > 0 && !named:
		return none, cluster, keys, fmt.Errorf("%w: copy cluster.key from a peer of the cluster to %s, "+
			"or name it with --cluster-key", ErrNoClusterKey, keys.ClusterKey)
	case missing && !named:
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return none, cluster, keys, fmt.Errorf("data directory: %w", err)
		}
		var made secret.Key
		made, err = secret.Create(keys.ClusterKey)
		cluster, keys.Created = secret.NewRing(made), true
	}
	if err != nil {
		return none, cluster, keys, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return none, cluster, keys, fmt.Errorf("data directory: %w", err)
	}
	own, err := secret.OpenHostKey(keys.HostKey)
	if err != nil {
		return none, cluster, keys, err
	}
	keys.PeerID, err = peerIDOf(own.Public())
	return own, cluster, keys, err
}

func memoryKeys(cfg Config) (own secret.HostKey, cluster secret.Ring, keys Keys, err error) {
	if cluster, err = secret.Load(cfg.ClusterKey); err != nil {
		return own, cluster, keys, err
	}
	own = secret.NewHostKey()
	keys.ClusterKey = cfg.ClusterKey
	keys.PeerID, err = peerIDOf(own.Public())
	return own, cluster, keys, err
}

// peerIDOf derives the libp2p id from a public key.
func peerIDOf(public ed25519.PublicKey) (string, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(public)
	if err != nil {
		return "", err
	}
	id, err := libpeer.IDFromPublicKey(key)
	return id.String(), err
}
