package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/store"
)

// sector is what the simulated disk writes whole or not at all, in bytes: small, so that most
// records lie in several.
const sector = 16

// platter is a directory on a disk that loses power. What was not synced it keeps in any part: each
// sector of a write, each change of a size, each name.
type platter struct {
	files   map[string]*platterFile
	durable map[string]*platterFile // the names that were synced
	ghosts  map[string]*platterFile // names that were removed since
	room    int                     // bytes that it takes until it is full; negative for no bound
	failing bool                    // syncs fail
	left    int                     // changes until the power is gone; negative for no bound
}

// dead counts a change, and returns whether there is no power left for it.
func (d *platter) dead() bool {
	if d.left > 0 {
		d.left--
		return false
	}
	return d.left == 0
}

type platterFile struct {
	disk    *platter
	content []byte
	durable []byte
	pending []change // since the last sync, in order
}

// change is a part of a write, or the size that a file was given.
type change struct {
	at   int64
	data []byte // nil for a size
}

func newPlatter() *platter {
	none := func() map[string]*platterFile { return map[string]*platterFile{} }
	return &platter{files: none(), durable: none(), ghosts: none(), room: -1, left: -1}
}

func (d *platter) list() ([]string, error) { return slices.Sorted(maps.Keys(d.files)), nil }

func (d *platter) create(name string) (file, error) {
	if d.dead() {
		return nil, errDisk
	}
	if d.room == 0 {
		return nil, syscall.ENOSPC
	}
	f := &platterFile{disk: d}
	d.files[name] = f
	return f, nil
}

func (d *platter) open(name string) (file, error) {
	f, ok := d.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return f, nil
}

func (d *platter) remove(name string) error {
	f, ok := d.files[name]
	if !ok {
		return fs.ErrNotExist
	}
	if d.dead() {
		return errDisk
	}
	d.ghosts[name] = f
	delete(d.files, name)
	return nil
}

func (d *platter) sync() error {
	if d.dead() || d.failing {
		return errDisk
	}
	d.durable = maps.Clone(d.files)
	clear(d.ghosts)
	return nil
}

func (f *platterFile) ReadAt(b []byte, at int64) (int, error) {
	n := 0
	if at < int64(len(f.content)) {
		n = copy(b, f.content[at:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *platterFile) WriteAt(b []byte, at int64) (n int, err error) {
	if f.disk.dead() {
		return 0, errDisk
	}
	if f.disk.room >= 0 {
		if len(b) > f.disk.room {
			b, err = b[:f.disk.room], syscall.ENOSPC
		}
		f.disk.room -= len(b)
	}
	for n < len(b) {
		part := b[n:min(len(b), n+sector-int(at+int64(n))%sector)]
		f.change(change{at + int64(n), slices.Clone(part)})
		n += len(part)
	}
	return n, err
}

func (f *platterFile) Truncate(size int64) error {
	if f.disk.dead() {
		return errDisk
	}
	f.change(change{at: size})
	return nil
}

func (f *platterFile) change(c change) {
	f.pending = append(f.pending, c)
	f.content = c.apply(f.content)
}

func (c change) apply(to []byte) []byte {
	if c.data == nil {
		return append(slices.Clone(to[:min(len(to), int(c.at))]),
			make([]byte, max(0, int(c.at)-len(to)))...)
	}
	end := int(c.at) + len(c.data)
	to = append(slices.Clone(to), make([]byte, max(0, end-len(to)))...)
	copy(to[c.at:], c.data)
	return to
}

func (f *platterFile) Size() (int64, error) { return int64(len(f.content)), nil }

// Sync that fails forgets what it could not write, as Linux does: readers still see it, and the
// next Sync succeeds without it.
func (f *platterFile) Sync() error {
	if f.disk.dead() {
		return errDisk
	}
	if f.disk.failing {
		f.pending = nil
		return errDisk
	}
	for _, c := range f.pending {
		f.durable = c.apply(f.durable)
	}
	f.pending = nil
	return nil
}

func (f *platterFile) Close() error { return nil }

// losePower returns what is found afterwards.
func (d *platter) losePower(chance *rand.Rand) *platter {
	found := newPlatter()
	names := maps.Clone(d.files)
	maps.Copy(names, d.durable)
	maps.Copy(names, d.ghosts)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was := []*platterFile{d.files[name]}
		if before := d.durable[name]; before != was[0] {
			was = append(was, before)
		}
		if ghost := d.ghosts[name]; ghost != nil {
			was = append(was, ghost)
		}
		f := was[chance.IntN(len(was))]
		if f == nil {
			continue
		}
		content := f.durable
		likely := chance.IntN(5) // of 4: from nothing of it to all
		for _, c := range f.pending {
			if chance.IntN(4) < likely {
				content = c.apply(content)
			}
		}
		found.files[name] = &platterFile{disk: found, content: content, durable: content}
	}
	found.durable = maps.Clone(found.files)
	return found
}

// TestPowerFailuresLoseNothingThatWasSynced fills, drops, syncs, fails and loses a log in every
// order that rapid thinks of. After each power failure the log has every record that was synced,
// then a beginning of the others, nothing that was refused, and no damage.
func TestPowerFailuresLoseNothingThatWasSynced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &powerWorld{disk: newPlatter()}
		w.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) { w.append(t) },
			"full": func(t *rapid.T) {
				w.disk.room = rapid.IntRange(0, 100).Draw(t, "room")
				w.append(t)
				w.disk.room = -1
			},
			"sync": func(t *rapid.T) {
				if err := w.log.Sync(); err != nil {
					t.Fatal(err)
				}
			},
			"drop": func(t *rapid.T) {
				if err := w.drop(t); err != nil {
					t.Fatal(err)
				}
			},
			"checkpoint": func(*rapid.T) { w.known = w.log.Synced() },
			"end the process": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "sync fails") {
					w.disk.failing = true
					w.log.Sync()
					w.append(t)
					w.disk.failing = false
				}
				end := w.log.Next()
				w.open(t)
				w.check(t, end)
			},
			"lose power": func(t *rapid.T) {
				w.disk.left = rapid.IntRange(0, 8).Draw(t, "changes left")
				switch rapid.IntRange(0, 2).Draw(t, "while it") {
				case 0:
					w.append(t)
				case 1:
					w.log.Sync()
				case 2:
					w.drop(t)
				}
				w.losePower(t)
			},
		})
	})
}

type powerWorld struct {
	disk    *platter
	log     *Log
	records []store.Record // appended, and not lost
	known   store.Position // what the owner was told is synced
}

// losePower goes on with what the disk has kept, and may lose power while it opens that.
func (w *powerWorld) losePower(t *rapid.T) {
	synced := w.log.Synced()
	for {
		chance := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		w.disk = w.disk.losePower(chance)
		if rapid.Bool().Draw(t, "opens without a failure") {
			break
		}
		w.disk.left = rapid.IntRange(0, 6).Draw(t, "changes left")
		open(w.disk, Options{SegmentSize: testSize, Synced: w.known})
	}
	w.open(t)
	w.check(t, synced)
}

// drop drops what the owner no longer needs, so what is before its checkpoint.
func (w *powerWorld) drop(t *rapid.T) error {
	p := rapid.Uint64Range(0, uint64(w.log.Synced())).Draw(t, "position")
	w.known = max(w.known, store.Position(p))
	return w.log.DropBefore(store.Position(p))
}

func (w *powerWorld) open(t *rapid.T) {
	var err error
	if w.log, err = open(w.disk, Options{SegmentSize: testSize, Synced: w.known}); err != nil {
		t.Fatal(err)
	}
	w.log.reserve = rapid.SampledFrom([]store.Position{0, testSize / 4, 4 * testSize}).Draw(t, "written ahead")
}

// append appends records, of which each is another, so that what comes back from the dead is seen.
func (w *powerWorld) append(t *rapid.T) {
	var batch [][]byte
	for range rapid.IntRange(1, 4).Draw(t, "records") {
		text := fmt.Sprint(rapid.Uint64().Draw(t, "record"))
		batch = append(batch, []byte(text)[:min(len(text), 8)])
	}
	first := w.log.Next()
	var err error
	if rapid.Bool().Draw(t, "in parts") {
		_, _, err = w.log.AppendParts(batch...)
		batch = [][]byte{slices.Concat(batch...)}
	} else {
		_, _, err = w.log.Append(batch...)
	}
	if errors.Is(err, store.ErrNoSpace) {
		return
	}
	if err != nil && !errors.Is(err, store.ErrFailed) {
		t.Fatal(err) // else nobody knows what of it is there
	}
	for _, data := range batch {
		next := first.After(data)
		w.records = append(w.records, store.Record{Position: first, Next: next, Data: data})
		first = next
	}
}

func (w *powerWorld) check(t *rapid.T, synced store.Position) {
	if w.log.Next() < synced || w.log.Synced() != w.log.Next() {
		t.Fatalf("synced up to %d, then found up to %d, of it synced %d", synced, w.log.Next(),
			w.log.Synced())
	}
	size := int64(0)
	for _, f := range w.disk.files {
		size += int64(len(f.content))
	}
	if w.log.Size() != size {
		t.Fatalf("the log has a size of %d, its files one of %d", w.log.Size(), size)
	}
	w.records = slices.DeleteFunc(w.records, func(r store.Record) bool {
		return r.Next > w.log.Next()
	})
	r, err := w.log.Read(w.log.First(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, want := range w.records {
		if want.Position < w.log.First() {
			continue
		}
		got, err := r.Next()
		if err != nil || got.Position != want.Position || string(got.Data) != string(want.Data) {
			t.Fatalf("at %d stands %q, want %q at %d: %v", got.Position, got.Data, want.Data,
				want.Position, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("behind the last record: %v", err)
	}
}
