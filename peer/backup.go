package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/backup"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
	"github.com/peerd/peerd/store/badger"
	"github.com/peerd/peerd/store/mem"
	spacestore "github.com/peerd/peerd/store/space"
)

// ErrBackupRuns is returned by Backup while another one of this peer runs. Nothing was written.
var ErrBackupRuns = errors.New("a backup of this peer runs already: wait for its end")

// ErrBackupDamaged is wrapped by errors about a backup that is not what was written: it was
// changed, or cut short.
var ErrBackupDamaged = backup.ErrDamaged

// ErrNoBackup is wrapped by errors about what is no backup, or one that another version of peerd
// made.
var ErrNoBackup = backup.ErrFormat

// BackupInfo says what a backup holds.
type BackupInfo struct {
	Made   time.Time
	Name   string // of the peer that made it
	Spaces []BackupSpace
	// Keys, Records and Bytes are those of the whole file.
	Keys, Records, Bytes uint64
}

// BackupSpace says what a backup holds of a space.
type BackupSpace struct {
	Space         string
	Replica       string
	VersionVector map[string]uint64
	Keys, Cells   uint64
	Records       uint64
}

// BackupProgress is how far a backup, a check or a restore has come.
type BackupProgress struct {
	Records, Expected uint64 // of the store; about, for what is expected
	Bytes             uint64 // of the file
}

// Backup writes a backup of all spaces that this host holds to w, each of a moment of its own: see
// Space.Backup. The space "peerd" is left out: the directory of spaces is made again of those that
// are there, and who was removed (RemoveMember) is not in a backup.
// While one of them cannot be read, or is being backed up, there is none of all.
func (p *Peer) Backup(ctx context.Context, w io.Writer, progress func(BackupProgress)) (info BackupInfo, err error) {
	all := slices.DeleteFunc(p.held(), func(s *space) bool { return s.name == directorySpace })
	if len(all) == 0 {
		return info, fmt.Errorf("%w: it has none but its own directory", ErrNotHeld)
	}
	for _, s := range all { // before anything is written
		err := s.refusal()
		if s.backingUp.Load() {
			err = ErrBackupRuns
		}
		if err != nil {
			return info, fmt.Errorf("space %s: %w", s.name, err)
		}
	}
	made := time.Now()
	for i, s := range all {
		header := backup.Header{Name: p.cfg.Name, Space: s.name, Made: made, More: uint64(len(all) - i - 1)}
		if err := s.backUp(ctx, w, header, &info, progress); err != nil {
			return info, fmt.Errorf("space %s: %w", s.name, err)
		}
	}
	return info, nil
}

// Backup writes a backup to w: everything that this peer holds of the space at one moment. Reads
// and writes go on meanwhile, but room that they free is given back only at the end. progress,
// unless it is nil, is called after each block of about 1 MiB. Keys of the host and the cluster are
// not part of it.
//
// It takes a few MiB of memory. It ends with an error, and then what was written is no backup, when
// ctx ends, when the peer is closed, and when w fails; ErrBackupRuns, ErrRebuilding and ErrNotHeld
// say that nothing was written.
func (s *Space) Backup(ctx context.Context, w io.Writer, progress func(BackupProgress)) (info BackupInfo, err error) {
	held, err := s.here()
	switch {
	case err != nil:
		return info, err
	case held == nil:
		return info, fmt.Errorf("%w %q: nobody has written to it", ErrNotHeld, s.name)
	}
	header := backup.Header{Name: s.p.cfg.Name, Space: s.name, Made: time.Now()}
	return info, held.backUp(ctx, w, header, &info, progress)
}

// backUp writes a backup of the space, and adds it to info.
func (s *space) backUp(ctx context.Context, w io.Writer, header backup.Header, info *BackupInfo,
	progress func(BackupProgress)) error {
	if !s.backingUp.CompareAndSwap(false, true) {
		return ErrBackupRuns
	}
	defer s.backingUp.Store(false)
	moment, err := s.moment(ctx, &header)
	if err != nil {
		return err
	}
	defer s.views.Done()
	defer moment.Close()
	out, err := backup.NewWriter(w, header)
	if err != nil {
		return err
	}
	told := out.Bytes()
	var failed error
	err = moment.Scan(func(key, value []byte) bool {
		failed = out.Add(key, value)
		if failed != nil || out.Bytes() == told {
			return failed == nil
		}
		if told = out.Bytes(); progress != nil {
			progress(BackupProgress{info.Records + out.Records(), info.Records + header.Records, info.Bytes + told})
		}
		if failed = ctx.Err(); failed == nil && s.stopping() {
			failed = s.gone()
		}
		return failed == nil
	})
	s.suspectRead(err)
	if err = errors.Join(err, failed); err == nil {
		err = out.Close()
	}
	info.add(header, out.Records(), out.Bytes())
	return err
}

// moment takes the present one, which counts as an open view, and describes it.
func (s *space) moment(ctx context.Context, h *backup.Header) (moment *engine.Moment, err error) {
	w := &waiting{taken: make(chan *engine.Moment, 1)}
	failed := s.call(func(l *loop) {
		if err = s.refusal(); err == nil && s.p.disk.room() == full {
			err = s.p.disk.refusal()
		}
		if err == nil {
			err = l.engine.Backup(w.take)
		}
		if err == nil {
			s.views.Add(1)
			h.Replica = l.engine.ID()
		}
	})
	if failed != nil || err != nil {
		return nil, errors.Join(failed, err)
	}
	defer func() {
		if moment == nil {
			w.leave()
			s.views.Done()
		}
	}()
	select {
	case moment = <-w.taken:
	case <-ctx.Done():
	case <-s.stopped:
	}
	switch {
	case moment != nil:
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s.stopping():
		return nil, s.gone()
	default:
		return nil, ErrRebuilding
	}
	h.Seen, h.Keys, h.Cells = moment.Seen, uint64(moment.Keys), uint64(moment.Cells)
	h.Records = moment.Records
	return moment, nil
}

// waiting is somebody who waits for a moment, and may go away before there is one.
type waiting struct {
	taken chan *engine.Moment // of capacity 1
	mu    sync.Mutex
	left  bool
}

// take is called by the loop, once.
func (w *waiting) take(m *engine.Moment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.left {
		w.taken <- m
	} else if m != nil {
		m.Close()
	}
}

// leave has a moment closed that comes, or has come.
func (w *waiting) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = true
	select {
	case m := <-w.taken:
		if m != nil {
			m.Close()
		}
	default:
	}
}

// add adds a space's part of the file.
func (info *BackupInfo) add(h backup.Header, records, bytes uint64) {
	of := BackupSpace{Space: h.Space, Replica: h.Replica.String(), VersionVector: map[string]uint64{},
		Keys: h.Keys, Cells: h.Cells, Records: records}
	for id, n := range h.Seen {
		of.VersionVector[id.String()] = n
	}
	info.Made, info.Name, info.Spaces = h.Made, h.Name, append(info.Spaces, of)
	info.Keys, info.Records, info.Bytes = info.Keys+h.Keys, info.Records+records, info.Bytes+bytes
}

// VerifyBackup reads a backup to its end and returns what it holds. The error wraps
// ErrBackupDamaged or ErrNoBackup if it is none that can be restored. It does not look into the
// records: Restore does.
func VerifyBackup(ctx context.Context, r io.Reader, progress func(BackupProgress)) (BackupInfo, error) {
	return readBackup(ctx, r, progress, func(backup.Header, []backup.Record) error { return nil })
}

// readBackup calls fn with all records of a backup, block by block.
func readBackup(ctx context.Context, r io.Reader, progress func(BackupProgress),
	fn func(backup.Header, []backup.Record) error) (info BackupInfo, err error) {
	for first, more := true, uint64(0); first || more > 0; first = false {
		in, err := backup.NewReader(r)
		switch {
		case err != nil && !first && (errors.Is(err, ErrNoBackup) || errors.Is(err, ErrBackupDamaged)):
			return info, fmt.Errorf("%w: of the %d spaces behind the first ones: %w", ErrBackupDamaged, more, err)
		case err != nil:
			return info, err
		}
		left := in.Header().More
		if !first && left != more-1 {
			err = fmt.Errorf("%w: %d spaces are to follow, and then %d", ErrBackupDamaged, more, left)
		}
		if err == nil {
			err = readSpace(ctx, in, &info, progress, fn)
		}
		in.Close()
		if err != nil {
			return info, err
		}
		more = left
	}
	return info, nil
}

// readSpace does so with those of one space, and adds it to info.
func readSpace(ctx context.Context, in *backup.Reader, info *BackupInfo, progress func(BackupProgress),
	fn func(backup.Header, []backup.Record) error) error {
	h := in.Header()
	for {
		records, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			info.add(h, in.Records(), in.Bytes())
			return nil
		case err == nil:
			err = ctx.Err()
		}
		if err == nil {
			err = fn(h, records)
		}
		if err != nil {
			return err
		}
		if progress != nil {
			progress(BackupProgress{info.Records + in.Records(), info.Records + h.Records, info.Bytes + in.Bytes()})
		}
	}
}

// sameContext reports whether what was restored is what the backup says it holds.
func sameContext(info BackupSpace, seen crdt.VersionVector) error {
	if len(seen) != len(info.VersionVector) {
		return fmt.Errorf("%w: it says it has %d replicas, its records have %d", ErrBackupDamaged,
			len(info.VersionVector), len(seen))
	}
	for id, n := range seen {
		if info.VersionVector[id.String()] != n {
			return fmt.Errorf("%w: it says it has %d writes of replica %v, its records have %d",
				ErrBackupDamaged, info.VersionVector[id.String()], id, n)
		}
	}
	return nil
}

// ErrNotEmpty is wrapped by Restore's error about a directory that holds something already.
var ErrNotEmpty = errors.New("a backup is restored into a new directory only")

const (
	storeDir = "store"
	logDir   = "store/log" // so that who moves the store away moves all of it
	// restoringDir is the store while it is restored. It becomes the store when all of it was
	// checked.
	restoringDir = "restoring"
)

// besideStore are the files that may be in a directory into which a backup is restored: the keys
// and the known peers of the host, which no backup holds. With them the host is the same member as
// before.
var besideStore = []string{hostKeyFile, clusterKeyFile, knownFile, clockFile}

// isBesideStore reports whether a file is one of them, or what a crash left of one: they are
// written aside.
func isBesideStore(name string) bool {
	return slices.ContainsFunc(besideStore, func(file string) bool {
		return name == file || name == file+".tmp" || strings.HasPrefix(name, "."+file+".")
	})
}

// restoreBatch is how many bytes of records one commit of a restore has.
const restoreBatch = store.MaxBatchBytes

// RestoreConfig says where a backup goes.
type RestoreConfig struct {
	// Dir is the data directory, which is made if it is not there. It must be empty, but for
	// host.key, cluster.key, members.json and clock.json.
	Dir string
	// ClusterKey is a file with a cluster's secret, to be copied to Dir unless that has a newer
	// one, as Config.ClusterKey is. Default: none is.
	ClusterKey string
	// Progress, unless it is nil, is called after each block of about 1 MiB.
	Progress func(BackupProgress)
}

// Restore makes a data directory from a backup, with all spaces that are in it. The peer that is
// opened there is a new replica with the data of the backup: it fetches what it lacks from its
// peers, and writes under an id of its own.
//
// The store is read back and compared with its checksums before it takes its place. After an error,
// of which ErrNotEmpty says that nothing was touched, there is no store in the directory.
func Restore(ctx context.Context, r io.Reader, cfg RestoreConfig) (info BackupInfo, err error) {
	made := lookBefore(Config{Dir: cfg.Dir})
	defer func() {
		if err != nil {
			made.removeDirs()
		}
	}()
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
		plan, err := planKeys(Config{Dir: cfg.Dir, ClusterKey: cfg.ClusterKey}, false)
		if err == nil {
			_, err = plan.keep()
		}
		if err != nil {
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
		if _, err := planKeys(Config{Dir: dir, ClusterKey: cfg.ClusterKey}, false); err != nil {
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
		if !isBesideStore(e.Name()) {
			return fmt.Errorf("%w: %s has %q", ErrNotEmpty, dir, e.Name())
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
	var space string // whose tree it is
	info, err = readBackup(ctx, r, progress, func(h backup.Header, records []backup.Record) (err error) {
		if tree == nil || h.Space != space {
			if tree, err = restoredTree(st, h.Space); err != nil {
				return err
			}
			space = h.Space
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
	if errors.Is(err, spacestore.ErrExists) {
		err = fmt.Errorf("%w: %w", ErrBackupDamaged, err)
	}
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
	if len(table.Spaces()) < len(info.Spaces) {
		return fmt.Errorf("%w: of one of its spaces it has no record", ErrBackupDamaged)
	}
	for _, s := range table.Spaces() {
		i := slices.IndexFunc(info.Spaces, func(of BackupSpace) bool { return of.Space == s.Name })
		if err := checkRestoredSpace(info.Spaces[i], spacestore.NewTree(st, s.Number)); err != nil {
			return fmt.Errorf("space %s: %w", s.Name, err)
		}
	}
	return nil
}

func checkRestoredSpace(info BackupSpace, tree store.Store) error {
	r, err := engine.Open(tree, mem.NewLog(), engine.Config{NewID: newReplicaID, Doubt: true}, nil, time.Time{})
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

// Salvaged is one write of a peer that no other is known to have. Its JSON is a line of "peerd
// salvage".
type Salvaged struct {
	Space   string `json:"space"`
	Replica string `json:"replica"`
	Dot     uint64 `json:"dot"` // which of the replica's mutations it is
	// Time is when it was written, by the peer's clock; left out of what is found in the cells
	// alone.
	Time *time.Time `json:"time,omitempty"`
	Key  Bytes      `json:"key"`
	// Path leads from the key to what was written: "map" and "set" with the name of a field or an
	// element, then "string" or "flag", as in HTTP. An entry of a stream has its id, and a part of
	// a bitmap the byte at which it begins. It is empty where a whole key was cleared, or expires.
	Path []SalvagedStep `json:"path"`
	// Operation is "set" a value, "add" to a counter or a score, "insert" an element, "enable" a
	// flag, "expire" and "persist", "remove", "clear" all under the path, "flush" all keys,
	// "reset", by which nothing is counted there any more, as behind a set, a remove and a clear,
	// with which it is not to be done again, or "unknown": what a HyperLogLog has counted, what a
	// stream has beside its entries, or what a later version wrote.
	Operation string  `json:"operation"`
	Value     *Bytes  `json:"value,omitempty"`  // that was set; or to a score, added
	Fields    []Bytes `json:"fields,omitempty"` // of an entry of a stream, each with its value behind it
	Amount    int64   `json:"amount,omitempty"` // that was added; when it ends, in milliseconds since 1970
	Total     int64   `json:"total,omitempty"`  // that the replica has counted there, with that
}

// SalvagedStep is one part of a path.
type SalvagedStep struct {
	Type string `json:"type"`
	Name Bytes  `json:"name,omitempty"`
}

// Bytes are a JSON string if they are text, and else an object with their base64.
type Bytes []byte

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) {
	if utf8.Valid(b) {
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false) // whoever encodes the whole says whether it goes into HTML
		err := e.Encode(string(b))
		return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
	}
	return json.Marshal(map[string][]byte{"base64": b})
}

// Salvage calls fn with the writes in a stopped peer's directory that no other peer is known to
// have: its own, and after a fork those of the version that is there, whoever wrote them. They are,
// space by space, in the order of writing, but for those that the log no longer has, which come
// last. What is not known is told rather than left out. It changes nothing of what is stored,
// leaves all files to the directory's owner, also if it is run by root, and needs the directory for
// itself: ErrLocked is wrapped if a peer runs there. An error of fn ends it and is returned. What
// cannot be read is passed over, and named by the error in the end, which then wraps
// store.ErrCorrupt; so are rotten blocks and tables of the store, which is then read in a copy of
// them, among the temporary files. It is about one space, or about all if that is empty: ErrNotHeld
// is wrapped if the directory has no such space, or what names it is rotten.
func Salvage(dir, space string, fn func(Salvaged) error) (err error) {
	path := filepath.Join(dir, storeDir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory %s has no store", dir)
	}
	defer func() { // the store makes files whenever it is opened
		if !errors.Is(err, ErrLocked) {
			err = errors.Join(err, badger.GiveBack(path))
		}
	}()
	st, err := badger.Open(path, badger.Options{Rotten: true})
	if err != nil {
		return inDirectory(dir, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	damaged := st.Damage()
	log, err := openLog(dir, st)
	if err != nil {
		return errors.Join(inDirectory(dir, err), damaged)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	table, err := openTable(st, log)
	if err != nil {
		return errors.Join(inDirectory(dir, err), damaged)
	}
	committer, all := spacestore.NewCommitter(log), table.Spaces()
	if space != "" {
		all = slices.DeleteFunc(all, func(of spacestore.Space) bool { return of.Name != space })
	}
	if len(all) == 0 && space != "" {
		return errors.Join(fmt.Errorf("data directory %s: %w %q", dir, ErrNotHeld, space), damaged)
	}
	for _, of := range all {
		var told error
		err := engine.Salvage(spacestore.NewTree(st, of.Number), committer.Log(of.Number, of.From),
			func(s engine.Salvaged) error {
				told = fn(salvagedOf(of.Name, s))
				return told
			})
		switch {
		case told != nil:
			return told
		case err != nil && !errors.Is(err, store.ErrCorrupt):
			return err
		case damaged == nil:
			damaged = err
		}
	}
	return damaged
}

func salvagedOf(space string, s engine.Salvaged) Salvaged {
	d := delta.Describe(s.Op)
	out := Salvaged{Space: space, Replica: s.Dot.Replica.String(), Dot: s.Dot.Counter, Key: Bytes(d.Key),
		Path: []SalvagedStep{}, Operation: d.Operation, Amount: d.Amount, Total: d.Total}
	if s.Time != 0 {
		at := s.Time.Wall().UTC()
		out.Time = &at
	}
	if d.Operation == "set" || d.Value != nil {
		value := Bytes(d.Value)
		out.Value = &value
	}
	for _, field := range d.Fields {
		out.Fields = append(out.Fields, Bytes(field))
	}
	for _, step := range d.Path {
		out.Path = append(out.Path, SalvagedStep{Type: step.Type.String(), Name: Bytes(step.Name)})
	}
	return out
}
