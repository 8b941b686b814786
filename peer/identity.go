package peer

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
	libpeer "github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerd/peerd/internal/secret"
	"github.com/peerd/peerd/store/badger"
)

// File names in the data directory.
const (
	hostKeyFile    = "host.key"
	clusterKeyFile = "cluster.key"
)

var (
	// ErrNoClusterKey is returned by Open and Init if there is no secret and none may be made: the
	// peer is to join others, or the directory knows members or holds data of a cluster.
	ErrNoClusterKey = errors.New("no cluster key: a host joins with the cluster's key in hand")
	// ErrOtherClusterKey is returned by Open and Init if Config.ClusterKey names the secret of
	// another cluster than that of the directory.
	ErrOtherClusterKey = errors.New("two cluster keys")
)

// Keys are the files that identify a host and its cluster.
type Keys struct {
	HostKey    string // path of the host's ed25519 key
	ClusterKey string // path of the cluster's secret, which every host of it needs a copy of
	Created    bool   // whether that was made now
	PeerID     string // of this host, as Config.Allow names it
}

// Keys returns the files that the peer was opened with. A peer without a network may have none.
func (p *Peer) Keys() Keys { return p.keys }

// Init makes the data directory, the host's key, and the cluster's secret where it is missing, as
// Open does. It returns ErrNoClusterKey if cfg.Join is set and there is no secret, or the
// directory has been used already.
func Init(cfg Config) (keys Keys, err error) {
	cfg = cfg.withDefaults()
	made := lookBefore(cfg)
	plan, err := planKeys(cfg, !made.store)
	made.store = false // whose it is if it is there later
	if err == nil {
		err = os.MkdirAll(cfg.Dir, 0o700)
	}
	if err == nil {
		_, keys, err = plan.carryOut(&made)
	}
	if err != nil {
		made.remove()
	}
	return keys, err
}

// keyPlan is the keys that a peer is to be opened with.
type keyPlan struct {
	keys  Keys
	ring  secret.Ring
	write bool // the ring is not what the directory's file has
}

// planKeys decides which cluster key a directory is opened with, and changes nothing. used says
// that the directory holds data already.
func planKeys(cfg Config, used bool) (plan keyPlan, err error) {
	path := filepath.Join(cfg.Dir, clusterKeyFile)
	plan.keys = Keys{HostKey: filepath.Join(cfg.Dir, hostKeyFile), ClusterKey: path}
	stored, err := secret.Load(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return plan, err
	}
	if cfg.ClusterKey != "" {
		named, err := secret.Load(cfg.ClusterKey)
		switch {
		case err == nil && missing:
			plan.ring, plan.write = named, true
			return plan, nil
		case err == nil:
			return plan.choose(stored, named, cfg.ClusterKey)
		case missing || !errors.Is(err, fs.ErrNotExist):
			return plan, err
		}
	}
	switch {
	case !missing:
		plan.ring = stored
		return plan, nil
	case used || knowsMembers(cfg.Dir):
		return plan, fmt.Errorf("%w: %s has data of a cluster or knows its members, and another cluster is not begun "+
			"there: copy cluster.key from a host of it to %s, or name it with --cluster-key (Config.ClusterKey), or run there "+
			"peerd invite and here what that prints; to begin another one with this data, name a key that peerd init has made "+
			"in a new directory", ErrNoClusterKey, cfg.Dir, path)
	case len(cfg.Join) > 0:
		return plan, fmt.Errorf("%w: copy cluster.key from a peer of the cluster to %s, or name it with --cluster-key "+
			"(Config.ClusterKey), or run there peerd invite and here what that prints", ErrNoClusterKey, path)
	}
	plan.ring, plan.write, plan.keys.Created = secret.NewRing(secret.New()), true, true
	return plan, nil
}

// choose decides between the ring of the directory and that of a file that was named.
func (plan keyPlan) choose(stored, named secret.Ring, file string) (keyPlan, error) {
	ring, same := stored.Newer(named)
	if !same {
		return plan, fmt.Errorf("%w: that of %s is not the one with which this host belongs to its cluster, %s: leave "+
			"--cluster-key out (Config.ClusterKey) to go on in that cluster; if its key was replaced while this host was "+
			"away, put a copy of the first in the place of the second; to join another cluster, start in a new directory",
			ErrOtherClusterKey, file, plan.keys.ClusterKey)
	}
	plan.ring, plan.write = ring, !ring.Equal(stored)
	return plan, nil
}

// keep writes the ring to the directory's file unless that has it, and reports whether there was none.
func (plan keyPlan) keep() (created bool, err error) {
	if !plan.write {
		return false, nil
	}
	path := plan.keys.ClusterKey
	if err = plan.ring.Create(path); errors.Is(err, fs.ErrExist) {
		return false, plan.ring.Save(path)
	}
	return err == nil, err
}

// carryOut writes what is missing, notes in made what that was, and returns the host's key.
func (plan keyPlan) carryOut(made *traces) (own secret.HostKey, keys Keys, err error) {
	keys = plan.keys
	created, err := plan.keep()
	if err != nil {
		return own, keys, err
	}
	if created {
		made.files = append(made.files, keys.ClusterKey)
	}
	if _, err := os.Lstat(keys.HostKey); errors.Is(err, fs.ErrNotExist) {
		made.files = append(made.files, keys.HostKey)
	}
	if own, err = secret.OpenHostKey(keys.HostKey); err == nil {
		keys.PeerID, err = peerIDOf(own.Public())
	}
	return own, keys, err
}

// loadKeys returns the keys that the peer is opened with. Its store is open, so that no other
// process makes keys.
func (p *Peer) loadKeys() (own secret.HostKey, ring secret.Ring, err error) {
	if p.cfg.Memory {
		if ring, err = secret.Load(p.cfg.ClusterKey); err != nil {
			return own, ring, err
		}
		own = secret.NewHostKey()
		p.keys.ClusterKey = p.cfg.ClusterKey
		p.keys.PeerID, err = peerIDOf(own.Public())
		return own, ring, err
	}
	used := false
	for _, s := range p.held() {
		used = used || s.written()
	}
	plan, err := planKeys(p.cfg, used)
	if err == nil {
		own, p.keys, err = plan.carryOut(&p.made)
	}
	return own, plan.ring, err
}

// checkKeys refuses a directory without a key that could be used or made, before anything is made
// there. The store, if there is one, is not looked at yet.
func (p *Peer) checkKeys() error {
	var err error
	switch {
	case p.cfg.Memory && p.cfg.ClusterKey != "":
		_, err = secret.Load(p.cfg.ClusterKey)
	case !p.cfg.Memory && (!p.cfg.Offline || p.cfg.ClusterKey != ""):
		_, err = planKeys(p.cfg, false)
	}
	return err
}

// foundOffline makes the keys of a new directory that is opened without a network first, so that
// it can be opened with one later.
func (p *Peer) foundOffline() error {
	if p.cfg.Memory || !p.made.store || p.cfg.ClusterKey != "" || len(p.cfg.Join) > 0 || knowsMembers(p.cfg.Dir) {
		return nil
	}
	_, _, err := p.loadKeys()
	return err
}

// knowsMembers reports whether the file of known members names any. One that cannot be read may.
func knowsMembers(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, knownFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	var file struct{ Members []json.RawMessage }
	return err != nil || json.Unmarshal(text, &file) != nil || len(file.Members) > 0
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

// traces are what a start makes in the file system, so that one that fails leaves nothing behind.
type traces struct {
	dir   string
	dirs  []string // that were not there, the innermost first
	files []string // keys that were made
	store bool     // there was no store
}

// lookBefore notes what is not there before a start.
func lookBefore(cfg Config) (made traces) {
	if cfg.Memory {
		return made
	}
	made.dir = cfg.Dir
	for dir := filepath.Clean(cfg.Dir); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made.dirs = append(made.dirs, dir)
	}
	_, err := os.Lstat(filepath.Join(cfg.Dir, storeDir))
	made.store = errors.Is(err, fs.ErrNotExist)
	return made
}

// remove removes what was made, unless another process uses it by now. It does what it can: why
// the start failed matters more.
func (made *traces) remove() {
	if made.dir == "" {
		return
	}
	path := filepath.Join(made.dir, storeDir)
	err := badger.Unused(path, func() {
		for _, file := range made.files {
			_ = os.Remove(file)
		}
		if made.store {
			_ = os.RemoveAll(path)
		}
	})
	if errors.Is(err, fs.ErrNotExist) { // nobody has opened it
		for _, file := range made.files {
			_ = os.Remove(file)
		}
	}
	made.removeDirs()
}

func (made *traces) removeDirs() {
	for _, dir := range made.dirs {
		_ = os.Remove(dir) // which fails if there is something else
	}
}
