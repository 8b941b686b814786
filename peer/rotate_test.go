package peer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	libnet "github.com/libp2p/go-libp2p/core/network"

	"github.com/peerd/peerd/internal/secret"
)

// keyCluster is peers with a key file of their own each, and the pace of a real network.
func keyCluster(t *testing.T, size int) *cluster {
	c := newCluster(t)
	for range size {
		c.start(c.ownKey(c.config(t.TempDir())))
	}
	c.meet(c.peers...)
	return c
}

// ownKey gives a peer a copy of the cluster's key file as it is.
func (c *cluster) ownKey(cfg Config) Config {
	c.t.Helper()
	cfg.ClusterKey = filepath.Join(cfg.Dir, clusterKeyFile)
	if _, err := os.Stat(cfg.ClusterKey); errors.Is(err, os.ErrNotExist) {
		ring, err := secret.Load(c.key)
		if err == nil {
			err = ring.Create(cfg.ClusterKey)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	cfg.FastGossip = false
	return cfg
}

// meet waits until all of these peers have links to each other.
func (c *cluster) meet(peers ...*Peer) {
	c.t.Helper()
	eventually(c.t, "links between all", func() bool {
		for _, p := range peers {
			linked := 0
			for _, m := range mustStatus(c.t, p).Members {
				if m.Linked && m.Alive {
					linked++
				}
			}
			if linked < len(peers)-1 {
				return false
			}
		}
		return true
	})
}

func mustStatus(t testing.TB, p *Peer) Status {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// changeKey runs a change to its end.
func changeKey(t *testing.T, p *Peer, without []string,
	change func(*Peer, context.Context, []string) (KeyChange, error)) KeyChange {
	t.Helper()
	done, err := change(p, t.Context(), without)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// linksWith returns the links that were opened with a key.
func (n *network) linksWith(key string) (links []*link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.streams {
		if l.key.ClusterID() == key {
			links = append(links, l)
		}
	}
	return links
}

// load writes at every peer until it is ended, and watches what each sees of the others.
type load struct {
	t       testing.TB
	stop    chan struct{}
	running sync.WaitGroup
	mu      sync.Mutex
	written int64
	pauses  map[string]time.Duration // the longest in which a peer got no delta
	deaths  []string
}

func (c *cluster) load(peers ...*Peer) *load {
	l := &load{t: c.t, stop: make(chan struct{}), pauses: map[string]time.Duration{}}
	for _, p := range peers {
		l.running.Go(func() { l.write(p) })
		l.running.Go(func() { l.watch(p) })
	}
	c.t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.running.Wait()
}

func (l *load) stopped(pause <-chan time.Time) bool {
	select {
	case <-l.stop:
		return true
	case <-pause:
		return false
	}
}

func (l *load) write(p *Peer) {
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	for !l.stopped(every.C) {
		err := p.Update(context.Background(), func(tx *Tx) error {
			_, err := tx.Counter("n").Add(1)
			return err
		})
		if err != nil {
			l.t.Error(err)
			return
		}
		l.mu.Lock()
		l.written++
		l.mu.Unlock()
	}
}

// watch notes when a peer takes a member for dead, and how long it sees nothing new from others.
func (l *load) watch(p *Peer) {
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	var seen uint64
	since := time.Now()
	for !l.stopped(every.C) {
		s, err := p.Status()
		if err != nil {
			l.t.Error(err)
			return
		}
		foreign := uint64(0)
		for id, n := range s.VersionVector {
			if id != s.Replica {
				foreign += n
			}
		}
		l.mu.Lock()
		for _, m := range s.Members {
			if !m.Alive {
				l.deaths = append(l.deaths, s.Name+" took "+m.Name+" for dead")
			}
		}
		l.pauses[s.Name] = max(l.pauses[s.Name], time.Since(since))
		l.mu.Unlock()
		if foreign > seen {
			seen, since = foreign, time.Now()
		}
	}
}

func TestTheKeyIsRotatedUnderLoadWithoutASplit(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 3)
	a, b, d := c.peers[0], c.peers[1], c.peers[2]
	l := c.load(a, b, d)
	began := mustStatus(t, a)
	// As the others join and the first deltas flow.
	eventually(t, "deltas of all at all", func() bool {
		return len(mustStatus(t, a).VersionVector)+len(mustStatus(t, b).VersionVector)+
			len(mustStatus(t, d).VersionVector) == 9
	})

	rotated := changeKey(t, b, nil, (*Peer).RotateKey)
	if !rotated.Done || len(rotated.Hosts) != 3 || rotated.Key == began.ClusterKey {
		t.Fatalf("rotated: %+v", rotated)
	}
	for _, p := range c.peers {
		if s := mustStatus(t, p); s.ClusterKey != rotated.Key || !slices.Contains(s.AcceptedKeys, began.ClusterKey) {
			t.Errorf("%s uses %s and accepts %s", s.Name, s.ClusterKey, s.AcceptedKeys)
		}
	}
	eventually(t, "links with the new key", func() bool {
		for _, p := range c.peers {
			if len(p.net.linksWith(rotated.Key)) != 2 {
				return false
			}
		}
		return true
	})
	retired := changeKey(t, a, nil, (*Peer).RetireKeys)
	if !retired.Done || retired.Key != rotated.Key {
		t.Fatalf("retired: %+v", retired)
	}
	// Longer than it takes to suspect a member whose gossip is not understood, and to bury it.
	flows, ended := mustStatus(t, d).Deltas, time.Now()
	eventually(t, "nobody is buried", func() bool { return time.Since(ended) > 7*time.Second })
	if now := mustStatus(t, d).Deltas; now < flows+100 {
		t.Errorf("only %d deltas since the old key was retired", now-flows)
	}
	l.end()
	c.converge(a, b, d)
	for _, p := range c.peers {
		s := mustStatus(t, p)
		if s.ClusterKey != rotated.Key || len(s.AcceptedKeys) != 0 {
			t.Errorf("%s uses %s and accepts %s after the old key was retired", s.Name, s.ClusterKey, s.AcceptedKeys)
		}
	}
	if len(l.deaths) > 0 {
		t.Errorf("%d times a member was taken for dead: %s", len(l.deaths), l.deaths[0])
	}
	for name, pause := range l.pauses {
		if pause > 5*time.Second {
			t.Errorf("%s got nothing new for %v", name, pause)
		}
	}
	t.Logf("%d writes, longest pauses %v", l.written, l.pauses)
	err := a.View(t.Context(), func(tx *Tx) error {
		if n := tx.Counter("n").Get(); n != l.written {
			t.Errorf("%d of %d writes are there (%v)", n, l.written, tx.Err())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	// A host that has only the old key is refused.
	var log memory
	old := c.config(t.TempDir())
	old.Logger, old.Name, old.FastGossip = log.logger(), "old", false
	stranger := c.start(old)
	eventually(t, "the stranger is told", func() bool { return log.says("another cluster key") })
	if s := mustStatus(t, stranger); len(s.Members) != 0 {
		t.Errorf("a host with the old key sees %+v", s.Members)
	}
	if s := mustStatus(t, a); len(s.Members) != 2 {
		t.Errorf("with a stranger outside a member sees %+v", s.Members)
	}
}

// states returns the state of each host by its name.
func states(change KeyChange) map[string]string {
	out := map[string]string{}
	for _, h := range change.Hosts {
		out[h.Name] = h.State
	}
	return out
}

func TestARotationWaitsForAMemberThatIsDownAndGoesOnWhenItIsBack(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 2)
	a, b := c.peers[0], c.peers[1]
	cfg := b.cfg
	old := mustStatus(t, a).ClusterKey
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a member is missed", func() bool { return !mustStatus(t, a).Members[0].Alive })

	first := changeKey(t, a, nil, (*Peer).RotateKey)
	want := map[string]string{"peer0": KeyAnswers, "peer1": "does not answer"}
	if diff := cmp.Diff(want, states(first)); first.Done || first.Key != "" || diff != "" {
		t.Errorf("with a member down: done %v, %s", first.Done, diff)
	}
	if s := mustStatus(t, a); s.ClusterKey != old || len(s.AcceptedKeys) != 0 {
		t.Errorf("with a member down: uses %s, accepts %s", s.ClusterKey, s.AcceptedKeys)
	}

	b = c.start(cfg) // with the old key alone
	c.meet(a, b)
	again := changeKey(t, a, nil, (*Peer).RotateKey)
	if !again.Done {
		t.Fatalf("with all there: %+v", again)
	}
	// It crashes, as it were, and comes back with what its file holds.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a member is missed", func() bool { return !mustStatus(t, a).Members[0].Alive })
	if retired := changeKey(t, a, nil, (*Peer).RetireKeys); retired.Done {
		t.Errorf("a key is retired with a member down: %+v", retired)
	}
	b = c.start(cfg)
	c.meet(a, b)
	if retired := changeKey(t, b, nil, (*Peer).RetireKeys); !retired.Done {
		t.Errorf("retired: %+v", retired)
	}
	for _, p := range []*Peer{a, b} {
		if s := mustStatus(t, p); s.ClusterKey != again.Key || len(s.AcceptedKeys) != 0 {
			t.Errorf("%s uses %s and accepts %s", s.Name, s.ClusterKey, s.AcceptedKeys)
		}
	}
}

func TestAMemberThatIsLeftOutOfARotationIsAStrangerAfterIt(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 3)
	a, b, stolen := c.peers[0], c.peers[1], c.peers[2]
	without := []string{mustStatus(t, stolen).PeerID}
	if _, err := a.RotateKey(t.Context(), []string{"12D3KooWnobody"}); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("leaving out nobody: %v", err)
	}
	rotated := changeKey(t, a, without, (*Peer).RotateKey)
	want := map[string]string{"peer0": KeyUsed, "peer1": KeyUsed, "peer2": KeyLeftOut}
	if diff := cmp.Diff(want, states(rotated)); !rotated.Done || diff != "" {
		t.Errorf("rotated: done %v, %s", rotated.Done, diff)
	}
	again := changeKey(t, a, nil, (*Peer).RotateKey) // who was left out stays so
	if diff := cmp.Diff(want, states(again)); !again.Done || again.Key == rotated.Key || diff != "" {
		t.Errorf("rotated again: done %v, %s", again.Done, diff)
	}
	retired := changeKey(t, a, nil, (*Peer).RetireKeys)
	want = map[string]string{"peer0": KeyAlone, "peer1": KeyAlone, "peer2": KeyLeftOut}
	if diff := cmp.Diff(want, states(retired)); !retired.Done || diff != "" {
		t.Errorf("retired: done %v, %s", retired.Done, diff)
	}
	if s := mustStatus(t, stolen); s.ClusterKey == again.Key || len(s.AcceptedKeys) != 0 {
		t.Errorf("the one left out uses %s and accepts %s", s.ClusterKey, s.AcceptedKeys)
	}
	eventually(t, "its links end", func() bool {
		for _, m := range mustStatus(t, stolen).Members {
			if m.Linked {
				return false
			}
		}
		return true
	})
	wantProblem(t, a, "key-left-out")
	wantProblem(t, stolen, "key-left-out")
	mustUpdate(t, a, func(tx *Tx) error { return tx.String("s").Set([]byte("after")) })
	c.converge(a, b)
	mustUpdate(t, stolen, func(tx *Tx) error { return tx.String("s").Set([]byte("stolen")) })
	if err := stolen.net.host.Connect(t.Context(), a.net.host.Peerstore().PeerInfo(a.net.id)); err == nil {
		for _, kind := range []string{syncStream, pullStream, keyStream} {
			s, _, err := stolen.net.openStream(t.Context(), a.net.id, kind, stolen.net.keys.ring().Keys())
			if err != nil {
				continue
			}
			_ = s.SetDeadline(time.Now().Add(time.Minute))
			if err := proveAsDialer(s, stolen.net.keys.ring().InUse(), stolen.net.id, a.net.id); err == nil {
				t.Errorf("a stream %s is opened with the old key", kind)
			}
		}
	}
}

// TestAMemberThatIsGivenTheNewKeyByHandTakesPartAgain copies the key to one that a rotation left
// out, as the problem key-left-out says. It would accept the old key for ever.
func TestAMemberThatIsGivenTheNewKeyByHandTakesPartAgain(t *testing.T) {
	t.Parallel()
	for how, named := range map[string]bool{"named again": true, "named once": false} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := keyCluster(t, 3)
			a, b, out, cfg := c.peers[0], c.peers[1], c.peers[2], c.peers[2].cfg
			without := []string{mustStatus(t, out).PeerID}
			mustClose(t, out)
			rotated := changeKey(t, a, without, (*Peer).RotateKey)
			if err := a.net.keys.ring().Save(cfg.ClusterKey); err != nil {
				t.Fatal(err)
			}
			out = c.start(cfg)
			c.meet(a, b, out)
			if !named {
				without = nil
			}
			retired := changeKey(t, a, without, (*Peer).RetireKeys)
			want := map[string]string{"peer0": KeyAlone, "peer1": KeyAlone, "peer2": KeyAlone}
			if diff := cmp.Diff(want, states(retired)); !retired.Done || diff != "" {
				t.Errorf("retired: done %v, %s", retired.Done, diff)
			}
			if s := mustStatus(t, out); s.ClusterKey != rotated.Key || len(s.AcceptedKeys) != 0 {
				t.Errorf("it uses %s and accepts %s", s.ClusterKey, s.AcceptedKeys)
			}
		})
	}
}

// TestAMemberThatIsLeftOutAndCannotRetireIsLeftOut though it holds the key: it was named for that.
func TestAMemberThatIsLeftOutAndCannotRetireIsLeftOut(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 3)
	a, broken := c.peers[0], c.peers[2]
	if rotated := changeKey(t, a, nil, (*Peer).RotateKey); !rotated.Done {
		t.Fatalf("rotated: %+v", rotated)
	}
	defer breakKeyFile(t, broken)()
	if retired := changeKey(t, a, nil, (*Peer).RetireKeys); retired.Done {
		t.Errorf("retired, with one that cannot: %+v", retired)
	}
	retired := changeKey(t, a, []string{mustStatus(t, broken).PeerID}, (*Peer).RetireKeys)
	want := map[string]string{"peer0": KeyAlone, "peer1": KeyAlone, "peer2": KeyLeftOut}
	if diff := cmp.Diff(want, states(retired)); !retired.Done || diff != "" {
		t.Errorf("retired without it: done %v, %s", retired.Done, diff)
	}
}

// TestMembersThatAreLeftOutAreAskedAtOnce whether they hold the key: each of those that do not
// answer takes keyTimeout.
func TestMembersThatAreLeftOutAreAskedAtOnce(t *testing.T) {
	t.Parallel()
	const silent = 3
	c := keyCluster(t, 1+silent)
	a := c.peers[0]
	var without []string
	asked, all := atomic.Int32{}, make(chan struct{})
	for _, p := range c.peers[1:] {
		without = append(without, mustStatus(t, p).PeerID)
		once := sync.OnceFunc(func() {
			if asked.Add(1) == silent {
				close(all)
			}
		})
		p.net.host.SetStreamHandler(streamID(keyStream, p.net.keys.ring().InUse()), func(s libnet.Stream) {
			defer func() { _ = s.Reset() }()
			gaveUp := make(chan struct{})
			go func() {
				_, _ = io.Copy(io.Discard, s)
				close(gaveUp)
			}()
			once()
			select {
			case <-all:
			case <-gaveUp:
				t.Errorf("%s was given up before others were asked", p.cfg.Name)
			}
		})
	}
	if retired := changeKey(t, a, without, (*Peer).RetireKeys); !retired.Done {
		t.Errorf("retired: %+v", retired)
	}
}

func TestTwoRotationsAtOnceSplitNothing(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 3)
	var both sync.WaitGroup
	var changes [2]KeyChange
	for i := range changes {
		both.Go(func() { changes[i] = changeKey(t, c.peers[i], nil, (*Peer).RotateKey) })
	}
	both.Wait()
	for _, p := range c.peers {
		s := mustStatus(t, p)
		accepted := append(s.AcceptedKeys, s.ClusterKey)
		for _, other := range c.peers {
			if inUse := mustStatus(t, other).ClusterKey; !slices.Contains(accepted, inUse) {
				t.Errorf("%s does not accept the key that %s uses", s.Name, mustStatus(t, other).Name)
			}
		}
	}
	last := changeKey(t, c.peers[2], nil, (*Peer).RotateKey)
	if !last.Done || !changeKey(t, c.peers[2], nil, (*Peer).RetireKeys).Done {
		t.Errorf("afterwards: %+v", last)
	}
	for _, p := range c.peers {
		if s := mustStatus(t, p); s.ClusterKey != last.Key || len(s.AcceptedKeys) != 0 {
			t.Errorf("%s uses %s and accepts %s", s.Name, s.ClusterKey, s.AcceptedKeys)
		}
	}
}

// TestAKeyIsRetiredThoughAMembersWordOfItsStreamsWasLost has libp2p believe what a member served before
// a rotation, as it does where hosts of one subnet tell of more changes than it lets through.
func TestAKeyIsRetiredThoughAMembersWordOfItsStreamsWasLost(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 2)
	a, b := c.peers[0], c.peers[1]
	book := a.net.host.Peerstore()
	before, err := book.GetProtocols(b.net.id)
	if err != nil {
		t.Fatal(err)
	}
	rotated := changeKey(t, a, nil, (*Peer).RotateKey)
	if !rotated.Done {
		t.Fatalf("rotated: %+v", rotated)
	}
	eventually(t, "word of the new key's streams", func() bool {
		now := streamID(keyStream, a.net.keys.ring().InUse())
		known, err := book.SupportsProtocols(b.net.id, now)
		return err == nil && len(known) == 1
	})
	if err := book.SetProtocols(b.net.id, before...); err != nil {
		t.Fatal(err)
	}
	if retired := changeKey(t, a, nil, (*Peer).RetireKeys); !retired.Done {
		t.Errorf("retired: %+v", retired)
	}
}

// breakKeyFile has a peer fail to replace the file of its keys until mend is called: a directory stands there.
func breakKeyFile(t *testing.T, p *Peer) (mend func()) {
	t.Helper()
	path := p.net.keys.path
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Rename(path, path+".away"))
	must(os.Mkdir(path, 0o700))
	return func() {
		t.Helper()
		must(os.Remove(path))
		must(os.Rename(path+".away", path))
	}
}

func TestAMemberThatCannotStoreTheKeySaysSoAndNothingIsUsed(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 2)
	a, b := c.peers[0], c.peers[1]
	old := mustStatus(t, a).ClusterKey
	mend := breakKeyFile(t, b)
	change := changeKey(t, a, nil, (*Peer).RotateKey)
	state := states(change)["peer1"]
	if change.Done || !strings.Contains(state, "the file of the cluster key") {
		t.Errorf("done %v, %s", change.Done, state)
	}
	for _, p := range c.peers {
		if s := mustStatus(t, p); s.ClusterKey != old {
			t.Errorf("%s uses %s", s.Name, s.ClusterKey)
		}
	}
	if _, err := a.RetireKeys(t.Context(), nil); !errors.Is(err, ErrKeyChangeOpen) {
		t.Errorf("a rotation that is open can be ended by retiring its key: %v", err)
	}
	mend()
	if again := changeKey(t, a, nil, (*Peer).RotateKey); !again.Done || again.Key != change.Key {
		t.Errorf("when it can: %+v, began with %s", again, change.Key)
	}
}

// TestAMemberThatIsLeftOutDoesNotKnowTheNewKeyFromBefore has a rotation end early once the member holds its key.
func TestAMemberThatIsLeftOutDoesNotKnowTheNewKeyFromBefore(t *testing.T) {
	t.Parallel()
	for how, leave := range map[string]func(a *Peer, id string) (without []string, err error){
		"named": func(_ *Peer, id string) ([]string, error) { return []string{id}, nil },
		"removed": func(a *Peer, id string) ([]string, error) {
			_, err := a.RemoveMember(t.Context(), id)
			return nil, err
		},
		"removed and named": func(a *Peer, id string) ([]string, error) {
			_, err := a.RemoveMember(t.Context(), id)
			return []string{id}, err
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := keyCluster(t, 3)
			a, b, stolen := c.peers[0], c.peers[1], c.peers[2]
			mend := breakKeyFile(t, b)
			if early := changeKey(t, a, nil, (*Peer).RotateKey); early.Done {
				t.Fatalf("rotated: %+v", early)
			}
			mend()
			without, err := leave(a, mustStatus(t, stolen).PeerID)
			if err != nil {
				t.Fatal(err)
			}
			rotated := changeKey(t, a, without, (*Peer).RotateKey)
			if _, known := stolen.net.keys.ring().Get(rotated.Key); known || !rotated.Done {
				t.Errorf("done %v, and the one left out knows the new key: %v", rotated.Done, known)
			}
		})
	}
}

func TestAMemberThatIsAddedAgainBeforeTheOldKeyIsRetiredIsToldTheNewOne(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 2)
	a, b := c.peers[0], c.peers[1]
	id := mustStatus(t, b).PeerID
	if _, err := a.RemoveMember(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if rotated := changeKey(t, a, nil, (*Peer).RotateKey); !rotated.Done {
		t.Fatalf("rotated: %+v", rotated)
	}
	if _, err := a.AddMember(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	c.meet(a, b)
	want := map[string]string{"peer0": KeyAlone, "peer1": KeyAlone}
	if diff := cmp.Diff(want, states(changeKey(t, a, nil, (*Peer).RetireKeys))); diff != "" {
		t.Error(diff)
	}
}

// TestARotationGoesOnAfterARestartThoughSomebodyWasRemoved with the key that others hold: were it another one each time,
// the keys that nobody uses would soon be too many.
func TestARotationGoesOnAfterARestartThoughSomebodyWasRemoved(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 3)
	a, b := c.peers[0], c.peers[1]
	if _, err := a.RemoveMember(t.Context(), mustStatus(t, c.peers[2]).PeerID); err != nil {
		t.Fatal(err)
	}
	mend := breakKeyFile(t, b)
	early := changeKey(t, a, nil, (*Peer).RotateKey)
	mend()
	a.net.keys.begun, a.net.keys.without = secret.Key{}, nil // as after a restart
	if rotated := changeKey(t, a, nil, (*Peer).RotateKey); early.Done || !rotated.Done || rotated.Key != early.Key {
		t.Errorf("a rotation that ended early, %+v, went on as %+v", early, rotated)
	}
}

// TestAKeyIsNotRetiredWhileAnotherIsToBeUsed by a change that another host leads: some may use it already.
func TestAKeyIsNotRetiredWhileAnotherIsToBeUsed(t *testing.T) {
	used, next := secret.New(), secret.New()
	ring, err := secret.NewRing(used).Hold(next)
	if err != nil {
		t.Fatal(err)
	}
	retire := keyRequest{step: stepRetire, id: used.ClusterID()}
	if kept, err := retire.apply(ring); !errors.Is(err, ErrKeyChangeOpen) || !kept.Equal(ring) {
		t.Errorf("retired, with %v", err)
	}
	if ring, err = ring.Use(next.ClusterID()); err != nil {
		t.Fatal(err)
	}
	retire.id = next.ClusterID()
	if left, err := retire.apply(ring); err != nil || len(left.Keys()) != 1 {
		t.Errorf("%d keys are left, %v", len(left.Keys()), err)
	}
}

func TestAPeerThatDoesNotKnowAllMembersRotatesNothing(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 1)
	lonely := c.ownKey(c.config(t.TempDir()))
	lonely.Join = []string{"127.0.0.1:1"} // nobody answers there
	p := c.start(lonely)
	if _, err := p.RotateKey(t.Context(), nil); !errors.Is(err, ErrKeyAlone) {
		t.Errorf("a peer that has not found the others: %v", err)
	}

	// One of two knows a third, from its file, that the other has never heard of.
	a := c.peers[0]
	second := c.ownKey(c.config(t.TempDir()))
	second.Join = []string{a.net.members.Addr()}
	third := c.ownKey(c.config(t.TempDir()))
	b := c.start(second)
	third.Join, third.Name = []string{b.net.members.Addr()}, "third"
	d := c.start(third)
	c.meet(a, b, d)
	id := mustStatus(t, d).PeerID
	for _, p := range []*Peer{d, a} {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(a.cfg.Dir, knownFile)); err != nil {
		t.Fatal(err)
	}
	again := a.cfg
	again.Join = []string{b.net.members.Addr()}
	a = c.start(again)
	eventually(t, "the two see each other", func() bool {
		return len(mustStatus(t, a).Members) == 1 && mustStatus(t, a).Members[0].Linked
	})
	old := mustStatus(t, a).ClusterKey
	change := changeKey(t, a, nil, (*Peer).RotateKey)
	if change.Done || !strings.Contains(states(change)["?"], "and not here") {
		t.Errorf("a member unknown here: %+v", change)
	}
	if s := mustStatus(t, b); s.ClusterKey != old || len(s.AcceptedKeys) != 0 {
		t.Errorf("%s uses %s and accepts %s", s.Name, s.ClusterKey, s.AcceptedKeys)
	}
	if change := changeKey(t, a, []string{id}, (*Peer).RotateKey); !change.Done {
		t.Errorf("with the unknown member left out: %+v", change)
	}
}

// TestAPeerThatAReloadToldOfOthersRotatesNothing until another one tells it of nobody.
func TestAPeerThatAReloadToldOfOthersRotatesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	p := c.start(cfg)
	reload := func(join ...string) {
		t.Helper()
		cfg.Join = join
		if err := p.Reload(cfg); err != nil {
			t.Fatal(err)
		}
	}
	reload("127.0.0.1:1") // nobody answers there
	if _, err := p.RotateKey(t.Context(), nil); !errors.Is(err, ErrKeyAlone) {
		t.Errorf("a peer that has not found the others: %v", err)
	}
	if reach := p.net.reach(); !slices.Equal(reach, cfg.Join) {
		t.Errorf("its own address is that of the route to one of %q", reach)
	}
	reload()
	if change := changeKey(t, p, nil, (*Peer).RotateKey); !change.Done {
		t.Errorf("a peer that is told of nobody any more: %+v", change)
	}
}

func TestOnlyPeersOnTheListAreLetIn(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var log memory
	cfg := c.config(t.TempDir())
	invited := c.config(t.TempDir())
	own, err := Init(cfg)
	if err != nil {
		t.Fatal(err)
	}
	guest, err := Init(invited)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Allow, cfg.Logger = []string{own.PeerID, guest.PeerID}, log.logger()
	host := c.start(cfg)
	invited.Join, invited.Name = []string{host.net.members.Addr()}, "invited"
	friend := c.start(invited)
	other := c.config(t.TempDir())
	other.Join, other.Name = other.Join[:1], "other"
	stranger := c.start(other)
	mustUpdate(t, stranger, func(tx *Tx) error { return tx.String("s").Set([]byte("stranger")) })
	mustUpdate(t, host, func(tx *Tx) error { return tx.String("h").Set([]byte("host")) })
	eventually(t, "the invited one is served", func() bool { return mustStatus(t, friend).Keys >= 1 })
	eventually(t, "the stranger is refused and named", func() bool {
		return log.says("not on this one's list of allowed peers") && log.says(stranger.net.id.String())
	})
	for _, m := range mustStatus(t, host).Members {
		if m.Linked && m.PeerID != guest.PeerID {
			t.Errorf("%s is linked", m.Name)
		}
	}
	// What the stranger proves makes no difference.
	s, key, err := stranger.net.openStream(t.Context(), host.net.id, syncStream, stranger.net.keys.ring().Keys())
	if err == nil {
		_ = s.SetDeadline(time.Now().Add(time.Minute))
		if proveAsDialer(s, key, stranger.net.id, host.net.id) == nil {
			t.Error("the stranger has a stream")
		}
	}
	change := changeKey(t, host, nil, (*Peer).RotateKey)
	if _, told := states(change)["other"]; told || !change.Done {
		t.Errorf("who is not let in is given the new key: %+v", change)
	}
}

func TestAKeyThatIsNotInUseChangesNoKeys(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 2)
	a, b := c.peers[0], c.peers[1]
	old := a.net.keys.ring().InUse()
	rotated := changeKey(t, a, nil, (*Peer).RotateKey)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	// What a holder of the old key alone can do.
	s, _, err := b.net.openStream(ctx, a.net.id, keyStream, []secret.Key{old})
	if err == nil {
		_ = s.SetDeadline(time.Now().Add(10 * time.Second))
		if err = proveAsDialer(s, old, b.net.id, a.net.id); err == nil {
			t.Error("the old key opens a stream for changes of keys")
		}
	}
	if s := mustStatus(t, a); s.ClusterKey != rotated.Key || len(s.AcceptedKeys) != 1 {
		t.Errorf("uses %s and accepts %s", s.ClusterKey, s.AcceptedKeys)
	}
}

// TestAProofOfARetiredKeyThatComesLateOpensNothing has a host use what it proved with a key once that is retired.
func TestAProofOfARetiredKeyThatComesLateOpensNothing(t *testing.T) {
	t.Parallel()
	c := keyCluster(t, 2)
	a, b := c.peers[0], c.peers[1]
	if b.net.id > a.net.id {
		a, b = b, a // so that b's link does not yield
	}
	former := b.net.keys.ring().InUse()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	asks, key, err := b.net.openStream(ctx, a.net.id, keyStream, []secret.Key{former})
	if err != nil {
		t.Fatal(err)
	}
	if err := proveAsDialer(deadlined(asks), key, b.net.id, a.net.id); err != nil {
		t.Fatal(err)
	}
	if done := changeKey(t, a, nil, (*Peer).RotateKey); !done.Done {
		t.Fatalf("rotated: %+v", done)
	}
	if done := changeKey(t, a, nil, (*Peer).RetireKeys); !done.Done {
		t.Fatalf("retired: %+v", done)
	}
	if err := writeFrame(asks, keyRequest{step: stepHold, key: former.Expose()}.encode()); err == nil {
		if _, err = readFrame(asks, maxKeyAnswer); err == nil {
			t.Error("a request is answered whose key was retired before it came")
		}
	}
	if s := mustStatus(t, a); len(s.AcceptedKeys) != 0 {
		t.Errorf("the retired key is accepted again: %v", s.AcceptedKeys)
	}
	var there *link
	linked := func() *link {
		b.net.mu.Lock()
		defer b.net.mu.Unlock()
		return b.net.streams[a.net.id]
	}
	eventually(t, "a link with the new key", func() bool {
		there = linked()
		return there != nil && there.key == b.net.keys.ring().InUse()
	})
	s, _, err := b.net.openStream(ctx, a.net.id, syncStream, b.net.keys.ring().Keys())
	if err != nil {
		t.Fatal(err)
	}
	b.net.runLink(s, former, true, nil)
	if linked() != there || there.cause.Load() != nil {
		t.Error("a link was opened whose key was retired before it was proven")
	}
}

func TestEncodedKeyMessagesNeverChange(t *testing.T) {
	key := bytes.Repeat([]byte{7}, secret.KeySize)
	for want, got := range map[string][]byte{
		"9301c420" + strings.Repeat("07", secret.KeySize) + "c400": keyRequest{step: stepHold, key: key}.encode(),
		"9302c400c4026964":     keyRequest{step: stepUse, id: "id"}.encode(),
		"9303c400c4026964":     keyRequest{step: stepRetire, id: "id"}.encode(),
		"9304c400c400":         keyRequest{step: stepTell}.encode(),
		"92c40090":             keyAnswer{}.encode(),
		"92c4026e6f91c4026964": keyAnswer{problem: "no", members: []string{"id"}}.encode(),
	} {
		if hex.EncodeToString(got) != want {
			t.Errorf("%x is written, want %s", got, want)
		}
	}
}

func FuzzKeyMessages(f *testing.F) {
	f.Add(keyRequest{step: stepHold, key: bytes.Repeat([]byte{7}, secret.KeySize)}.encode())
	f.Add(keyRequest{step: stepUse, id: "0123456789abcdef"}.encode())
	f.Add(keyAnswer{problem: "no", members: []string{"id"}}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := decodeKeyAnswer(data); err == nil {
			if _, err := decodeKeyAnswer(a.encode()); err != nil {
				t.Errorf("%+v is not read again: %v", a, err)
			}
		}
		q, err := decodeKeyRequest(data)
		if err != nil {
			return
		}
		if _, err := decodeKeyRequest(q.encode()); err != nil {
			t.Errorf("%+v is not read again: %v", q, err)
		}
		ring := secret.NewRing(secret.New())
		if after, err := q.apply(ring); err == nil && len(after.Keys()) == 0 {
			t.Error("no key is left")
		}
	})
}

func TestAClosedPeerLeavesTheKeysAlone(t *testing.T) {
	c := newCluster(t)
	p := c.start(c.ownKey(c.config(t.TempDir())))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(p.Keys().ClusterKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.RotateKey(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("RotateKey returned %v, want %v", err, ErrClosed)
	}
	if _, err := p.RetireKeys(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("RetireKeys returned %v, want %v", err, ErrClosed)
	}
	if _, err := p.Invite(); !errors.Is(err, ErrClosed) {
		t.Errorf("Invite returned %v, want %v", err, ErrClosed)
	}
	hold := keyRequest{step: stepHold, key: secret.New().Expose()} // a change that began before
	if err := p.net.changeKeys(hold.apply); !errors.Is(err, ErrClosed) {
		t.Errorf("a step that was under way returned %v, want %v", err, ErrClosed)
	}
	after, err := os.ReadFile(p.Keys().ClusterKey)
	if err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file of the cluster's key changed: %v", err)
	}
}
