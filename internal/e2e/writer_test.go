package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// writer writes to one peer, and remembers what may be read of each thing that it wrote: what was
// acknowledged is there, and what was sent and not acknowledged may be. When its peer is gone it
// waits for it to come back, reads all that it wrote, and goes on.
type writer struct {
	d        *daemon
	id       string
	space    string // that it writes to, as selected takes it
	rng      *rand.Rand
	maxValue int           // bytes of padding
	pause    time.Duration // after each batch
	batches  int           // over one connection; 0 is no limit

	sets      [writerSets]map[string]presence
	registers [writerRegisters]bounds // which write of the register is seen
	counter   bounds
	pair      bounds // a transaction writes two fields
	elements  int    // that were ever tried

	acknowledged atomic.Int64
	refused      atomic.Int64 // for want of room on the disk
	deaf         atomic.Bool  // answers do not count: see image.cutPower
	last         error        // why it stopped writing to its peer most recently
}

const (
	writerSets      = 4
	writerRegisters = 8
	writerBatch     = 8 // writes in one pipeline

	// fewElements keep a set small: above it more are removed than added.
	fewElements = 40
)

// presence is what is known of an element of a set.
type presence int

const (
	absent presence = iota
	perhaps
	present
)

// bounds are what was acknowledged and what was tried of something that only grows. A reader sees
// a value of both or between.
type bounds struct{ acked, tried int64 }

func newWriter(d *daemon, id string, seed uint64) *writer {
	w := &writer{d: d, id: id, rng: rand.New(rand.NewPCG(seed, 0)), maxValue: 512}
	for i := range w.sets {
		w.sets[i] = map[string]presence{}
	}
	return w
}

func (w *writer) setKey(i int) string      { return fmt.Sprintf("%s:set:%d", w.id, i) }
func (w *writer) registerKey(i int) string { return fmt.Sprintf("%s:register:%d", w.id, i) }
func (w *writer) counterKey() string       { return w.id + ":counter" }
func (w *writer) pairKey() string          { return w.id + ":pair" }

// value is what write n of a register writes: it tells whose it is, and is long or short.
func (w *writer) value(key string, n int64) string {
	size := int(uint64(n) * 0x9e3779b97f4a7c15 >> 40 % uint64(w.maxValue))
	return fmt.Sprintf("%s %d %s", key, n, strings.Repeat(strconv.FormatInt(n%7, 10), size))
}

// act is one write that is about to be sent: its commands, and what the model learns once it is
// acknowledged. It knows already that the write was tried.
type act struct {
	commands []command
	acked    func()
}

func (w *writer) nextAct() act {
	switch dice := w.rng.IntN(100); {
	case dice < 25:
		return w.setRegister()
	case dice < 45:
		return w.increment()
	case dice < 60:
		return w.writePair()
	case dice < 62:
		return w.removeSet()
	default:
		return w.changeElement()
	}
}

func (w *writer) setRegister() act {
	i := w.rng.IntN(writerRegisters)
	b := &w.registers[i]
	b.tried++
	n, key := b.tried, w.registerKey(i)
	return act{[]command{{"SET", key, w.value(key, n)}}, func() { b.acked = n }}
}

func (w *writer) increment() act {
	by := 1 + w.rng.Int64N(9)
	w.counter.tried += by
	return act{
		[]command{{"INCRBY", w.counterKey(), strconv.FormatInt(by, 10)}},
		func() { w.counter.acked += by },
	}
}

func (w *writer) writePair() act {
	w.pair.tried++
	n := w.pair.tried
	text := strconv.FormatInt(n, 10)
	return act{
		[]command{{"MULTI"}, {"HSET", w.pairKey(), "left", text},
			{"HSET", w.pairKey(), "right", text}, {"EXEC"}},
		func() { w.pair.acked = n },
	}
}

func (w *writer) removeSet() act {
	i := w.rng.IntN(writerSets)
	set := w.sets[i]
	var removed []string // those that are added in the same pipeline afterwards are not
	for elem, p := range set {
		if p != absent {
			set[elem] = perhaps
			removed = append(removed, elem)
		}
	}
	return act{[]command{{"DEL", w.setKey(i)}}, func() {
		for _, elem := range removed {
			set[elem] = absent
		}
	}}
}

// changeElement adds an element that never was, or removes one that is there.
func (w *writer) changeElement() act {
	i := w.rng.IntN(writerSets)
	set := w.sets[i]
	var there []string
	for elem, p := range set {
		if p == present {
			there = append(there, elem)
		}
	}
	if w.rng.IntN(2*fewElements) >= len(there) {
		return w.addElement(i)
	}
	slices.Sort(there)
	elem := there[w.rng.IntN(len(there))]
	set[elem] = perhaps
	return act{[]command{{"SREM", w.setKey(i), elem}}, func() { set[elem] = absent }}
}

func (w *writer) element(set, n int) string { return fmt.Sprintf("%s-%d-%d", w.id, set, n) }

// wrote reports whether the element was ever added to that set.
func (w *writer) wrote(set int, elem string) bool {
	n, err := strconv.Atoi(elem[strings.LastIndexByte(elem, '-')+1:])
	return err == nil && 0 < n && n <= w.elements && elem == w.element(set, n)
}

func (w *writer) addElement(i int) act {
	w.elements++
	elem := w.element(i, w.elements)
	w.sets[i][elem] = perhaps
	return act{[]command{{"SADD", w.setKey(i), elem}}, func() { w.sets[i][elem] = present }}
}

// write writes what is drawn.
func (w *writer) write(c *client) error {
	var acts []act
	for range writerBatch {
		acts = append(acts, w.nextAct())
	}
	return w.send(c, acts)
}

// send sends some writes in one pipeline. Its error says why not all of them were acknowledged.
func (w *writer) send(c *client, acts []act) error {
	var commands []command
	for _, a := range acts {
		commands = append(commands, a.commands...)
	}
	replies, err := c.pipeline(commands)
	for _, a := range acts {
		if len(replies) < len(a.commands) {
			break
		}
		refused, is := replies[len(a.commands)-1].(replyError)
		if is {
			if strings.HasPrefix(string(refused), "MISCONF") {
				w.refused.Add(1)
			}
			return fmt.Errorf("%.200q: %w", a.commands, refused)
		}
		if w.deaf.Load() {
			return errDeaf
		}
		a.acked()
		w.acknowledged.Add(1)
		replies = replies[len(a.commands):]
	}
	return err
}

var errDeaf = errors.New("the answer came when the power was failing")

// run writes until stop is closed, through all that happens to its peer.
func (w *writer) run(stop <-chan struct{}) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		w.last = w.session(stop)
		select {
		case <-stop:
			return
		case <-again.C:
		}
	}
}

// session writes over one connection, after it has read back what was written before.
func (w *writer) session(stop <-chan struct{}) error {
	c, err := w.d.selected(w.space)
	if err != nil {
		return err
	}
	defer c.close()
	if !w.deaf.Load() {
		seen, err := w.read(c)
		if err != nil {
			return err
		}
		if w.deaf.Load() {
			return errDeaf // what it shows may be on no disk
		}
		w.compare(w.d.t, w.d, seen)
		w.settle(seen)
	}
	for n := 0; w.batches == 0 || n < w.batches; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := w.write(c); err != nil {
			return err
		}
		wait(w.pause)
	}
	return nil
}

// seen is what a peer shows of a writer's things.
type seen struct {
	sets        [writerSets]map[string]bool
	registers   [writerRegisters]int64
	counter     int64
	left, right int64
	strange     []string // what nobody ever wrote
}

// read reads all of the writer's things at one peer.
func (w *writer) read(c *client) (s seen, err error) {
	var commands []command
	for i := range w.sets {
		commands = append(commands, command{"SMEMBERS", w.setKey(i)})
	}
	for i := range w.registers {
		commands = append(commands, command{"GET", w.registerKey(i)})
	}
	commands = append(commands, command{"GET", w.counterKey()},
		command{"MULTI"}, command{"HGETALL", w.pairKey()}, command{"EXEC"})
	replies, err := c.must(commands)
	if err != nil {
		return s, err
	}
	for i := range s.sets {
		s.sets[i] = map[string]bool{}
		for _, elem := range texts(replies[i]) {
			s.sets[i][elem] = true
		}
	}
	for i := range s.registers {
		key, text := w.registerKey(i), replies[writerSets+i]
		s.registers[i] = s.number(key, field(text, 1))
		if n := s.registers[i]; n > 0 && text != w.value(key, n) {
			s.strange = append(s.strange, fmt.Sprintf("%s is %.200q", key, text))
		}
	}
	rest := replies[writerSets+writerRegisters:]
	s.counter = s.number(w.counterKey(), rest[0])
	if transaction, _ := rest[3].([]any); len(transaction) == 1 {
		pair := map[string]string{}
		fields := texts(transaction[0])
		for i := 0; i+1 < len(fields); i += 2 {
			pair[fields[i]] = fields[i+1]
		}
		if len(pair) > 0 {
			s.left = s.number(w.pairKey()+" left", pair["left"])
			s.right = s.number(w.pairKey()+" right", pair["right"])
		}
	}
	return s, nil
}

// field returns a word of a reply.
func field(reply any, i int) any {
	text, ok := reply.(string)
	if words := strings.SplitN(text, " ", i+2); ok && i < len(words) {
		return words[i]
	}
	return reply
}

// number reads a number; no reply counts as 0.
func (s *seen) number(key string, reply any) int64 {
	if reply == nil {
		return 0
	}
	text, _ := reply.(string)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.strange = append(s.strange, fmt.Sprintf("%s is %.200q", key, text))
	}
	return n
}

// compare fails the test unless what a peer shows is what was acknowledged, and more only if that
// was tried.
func (w *writer) compare(t *testing.T, d *daemon, s seen) {
	t.Helper()
	w.compareTried(t, d, s)
	for i, set := range w.sets {
		for elem, p := range set {
			switch {
			case p == present && !s.sets[i][elem]:
				w.wrong(t, d, "%s was added to %s and is not there", elem, w.setKey(i))
			case p == absent && s.sets[i][elem]:
				w.wrong(t, d, "%s was removed from %s and is there", elem, w.setKey(i))
			}
		}
		for elem := range s.sets[i] {
			if _, known := set[elem]; !known {
				w.wrong(t, d, "%.200q was removed from %s long ago and is there", elem, w.setKey(i))
			}
		}
	}
	for i, b := range w.registers {
		if s.registers[i] < b.acked {
			w.wrong(t, d, "%s shows write %d, want %v", w.registerKey(i), s.registers[i], b)
		}
	}
	if s.counter < w.counter.acked {
		w.wrong(t, d, "the counter is %d, want %v", s.counter, w.counter)
	}
	if s.left < w.pair.acked {
		w.wrong(t, d, "the pair is %d, want %v", s.left, w.pair)
	}
}

// compareTried fails the test unless all that a peer shows was tried: it may be behind.
func (w *writer) compareTried(t *testing.T, d *daemon, s seen) {
	t.Helper()
	for _, strange := range s.strange {
		w.wrong(t, d, "%s", strange)
	}
	for i := range w.sets {
		for elem := range s.sets[i] {
			if !w.wrote(i, elem) {
				w.wrong(t, d, "%.200q is in %s, and nobody added it", elem, w.setKey(i))
			}
		}
	}
	for i, b := range w.registers {
		if s.registers[i] > b.tried {
			w.wrong(t, d, "%s shows write %d of %d", w.registerKey(i), s.registers[i], b.tried)
		}
	}
	if s.counter > w.counter.tried {
		w.wrong(t, d, "the counter is %d of %d", s.counter, w.counter.tried)
	}
	if s.left != s.right || s.left > w.pair.tried {
		w.wrong(t, d, "the pair is %d and %d of %d", s.left, s.right, w.pair.tried)
	}
}

func (w *writer) wrong(t *testing.T, d *daemon, format string, args ...any) {
	t.Helper()
	t.Errorf("writer %s at %s: %s", w.id, d.name, fmt.Sprintf(format, args...))
}

// settle takes what a peer shows for what happened: what was not certain is so from now on, as
// nothing that was read may change by itself.
func (w *writer) settle(s seen) {
	for i, set := range w.sets {
		for elem, p := range set {
			switch {
			case p == present:
			case s.sets[i][elem]:
				set[elem] = present
			default:
				delete(set, elem) // should it come back, it is not known
			}
		}
	}
	for i, n := range s.registers {
		w.registers[i] = bounds{n, n}
	}
	w.counter = bounds{s.counter, s.counter}
	w.pair = bounds{s.left, s.left}
}
