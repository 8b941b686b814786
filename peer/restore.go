package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/peerd/peerd/internal/backup"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/internal/secret"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	"github.com/peerd/peerd/store/mem"
	spacestore "github.com/peerd/peerd/store/space"
)

// ErrNotEmpty is wrapped by Restore's error about a directory that holds something already.
var ErrNotEmpty = errors.New("a backup is restored into a new directory only")

const (
	storeDir = "store"
	logDir   = "store/log" // so that who moves the store away moves all of it
	// restoringDir is the store while it is restored. It becomes the store when all of it was checked.
	restoringDir = "restoring"
)

// besideStore are the files that may be in a directory into which a backup is restored: the keys
// and the known peers of the host, which no backup holds. With them the host is the same member as
// before.
var besideStore = []string{hostKeyFile, clusterKeyFile, knownFile}

// restoreBatch is how many bytes of records one commit of a restore has.
const restoreBatch = 4 << 20

// RestoreConfig says where a backup goes.
type RestoreConfig struct {
	// Dir is the data directory, which is made if it is not there. It must be empty, but for host.key,
	// cluster.key and members.json.
	Dir string
	// ClusterKey is a file with a cluster's secret, to be copied to Dir. Default: none is.
	ClusterKey string
	// Progress, unless it is nil, is called after each block of about 1 MiB.
	Progress func(BackupProgress)
}

// Restore makes a data directory from a backup. The peer that is opened there is a new replica with
// the data of the backup: it fetches what it lacks from its peers, and writes under an id of its
// own.
//
// The store is read back and compared with its checksums before it takes its place. After an error,
// of which ErrNotEmpty says that nothing was touched, there is no store in the directory.
func Restore(ctx context.Context, r io.Reader, cfg RestoreConfig) (info BackupInfo, err error) {
	if err := claim(cfg); err != nil {
		return info, err
	}
	staged := filepath.Join(cfg.Dir, restoringDir)
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(staged))
		}
	}()
	if info, err = unpack(ctx, r, staged, cfg.Progress); err != nil {
		return info, err
	}
	if err := checkRestored(info, staged); err != nil {
		return info, err
	}
	if err := ctx.Err(); err != nil {
		return info, err
	}
	return info, publishRestored(cfg, staged)
}

// publishRestored makes a restored store, and the cluster's key with it, the directory's.
func publishRestored(cfg RestoreConfig, staged string) error {
	if cfg.ClusterKey != "" {
		if err := secret.Copy(cfg.ClusterKey, filepath.Join(cfg.Dir, clusterKeyFile)); err != nil {
			return err
		}
	}
	if err := syncPath(staged); err != nil {
		return err
	}
	if err := os.Rename(staged, filepath.Join(cfg.Dir, storeDir)); err != nil {
		return err
	}
	return syncPath(cfg.Dir)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// claim makes a directory that holds nothing but keys this restore's own.
func claim(cfg RestoreConfig) error {
	dir := cfg.Dir
	if dir == "" {
		return errors.New("dir: name a directory for the data")
	}
	if cfg.ClusterKey != "" {
		if _, err := secret.Load(cfg.ClusterKey); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() == restoringDir {
			return interrupted(dir)
		}
		if !slices.Contains(besideStore, e.Name()) {
			return fmt.Errorf("%w: %s has %q", ErrNotEmpty, dir, e.Name())
		}
		if e.Name() == clusterKeyFile && cfg.ClusterKey != "" {
			return fmt.Errorf("%w: %s has a cluster key: leave the other one out", ErrNotEmpty, dir)
		}
	}
	err = os.Mkdir(filepath.Join(dir, restoringDir), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return interrupted(dir)
	}
	return err
}

func interrupted(dir string) error {
	return fmt.Errorf("%w: a restore into %s runs or was interrupted: if none runs, remove %s", ErrNotEmpty,
		dir, filepath.Join(dir, restoringDir))
}

// checkNotRestoring refuses a directory in which a restore did not come to its end.
func checkNotRestoring(dir string) error {
	switch _, err := os.Lstat(filepath.Join(dir, restoringDir)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("a restore into it runs or was interrupted: if none runs, remove %s and restore again",
		filepath.Join(dir, restoringDir))
}

// unpack writes a backup's records into a store.
func unpack(ctx context.Context, r io.Reader, dir string, progress func(BackupProgress)) (
	info BackupInfo, err error) {
	st, err := badger.Open(dir, badger.Options{})
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	disk, err := newDiskRoom(st, 0)
	if err != nil {
		return info, err
	}
	batch := &store.Batch{}
	var tree store.Store
	info, err = readBackup(ctx, r, progress, func(h backup.Header, records []backup.Record) (err error) {
		if tree == nil {
			if tree, err = restoredTree(st, h.Space); err != nil {
				return err
			}
		}
		for _, rec := range records {
			if !engine.InBackup(rec.Key) {
				continue
			}
			if batch.Bytes()+len(rec.Key)+len(rec.Value) > restoreBatch || batch.Len() == store.MaxBatchOps {
				if err := commit(tree, batch); err != nil {
					return err
				}
			}
			batch.Set(rec.Key, rec.Value)
		}
		if err := commit(tree, batch); err != nil { // the records are valid until the next block
			return err
		}
		return enough(disk)
	})
	if err != nil {
		return info, err
	}
	return info, st.Sync()
}

// restoredTree gives a space its place in a new store.
func restoredTree(st store.Store, name string) (store.Store, error) {
	if err := CheckSpaceName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackupDamaged, err)
	}
	table, err := spacestore.OpenTable(st)
	if err != nil {
		return nil, err
	}
	number, err := table.Add(name, 0)
	return spacestore.NewTree(st, number), err
}

// enough returns an error before the disk is so full that the store could not go on.
func enough(s *diskRoom) error {
	if s.meter == nil {
		return nil
	}
	now, err := s.meter.Disk()
	if err != nil {
		return err
	}
	if s.judge(now); s.room() == roomy {
		return nil
	}
	return fmt.Errorf("%w: %d MiB are free and %d MiB must stay so: make room, or restore to another disk",
		ErrNoSpace, now.Free>>20, s.needed.Load()>>20)
}

func commit(st store.Store, batch *store.Batch) error {
	err := st.Commit(batch, false)
	batch.Reset()
	return err
}

// checkRestored opens a restored store as a peer would, which reads and checks every table and
// every cell.
func checkRestored(info BackupInfo, dir string) (err error) {
	st, err := badger.Open(dir, badger.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	table, err := spacestore.OpenTable(st)
	if err != nil {
		return err
	}
	var tree store.Store = mem.New()
	for _, s := range table.Spaces() {
		tree = spacestore.NewTree(st, s.Number)
	}
	r, err := engine.Open(tree, mem.NewLog(), engine.Config{NewID: newReplicaID})
	if err != nil {
		return err
	}
	defer r.Close()
	if damage := r.Damaged(); damage != nil {
		return fmt.Errorf("%w: %v", ErrBackupDamaged, damage) // not a damaged store, to be moved away
	}
	seen, _ := r.Context()
	return sameContext(info, seen)
}
