package peer

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	libnet "github.com/libp2p/go-libp2p/core/network"

	"github.com/peerd/peerd/gossip/members"
	"github.com/peerd/peerd/internal/words"
)

var writeManual = flag.Bool("write-manual", false, "write the table of problems into docs/operations.md")

// TestEachKindOfProblemIsFound has each of problemKinds found, by its id, in the least that is
// wrong, and nothing in what is not.
func TestEachKindOfProblemIsFound(t *testing.T) {
	now := time.Now()
	same := []members.Sighting{{Kind: members.SameID, Addr: "10.0.0.9:7946", ID: "12D3"}}
	two := []Member{{Name: "lima", PeerID: "b", Addr: "10.0.0.2:7946", Alive: true},
		{Name: "kyoto", PeerID: "c", Addr: "10.0.0.2:7946", Alive: true}}
	for id, f := range map[string]facts{
		"removed": {status: &Status{Removed: true}, // and is let in by nobody
			unlinked: []unlinked{{name: "lima", id: "b", since: now.Add(-linkPatience)}}},
		"no-host-reached": {lonely: []string{"10.0.0.2:7946"}},
		"joined-nobody":   {unmet: []string{"10.0.0.2:7946"}},
		"other-key":       {sightings: []members.Sighting{{Kind: members.OtherKeyHere, Addr: "10.0.0.9"}}},
		"key-left-out": {sightings: []members.Sighting{{Kind: members.OtherKeyHere, Addr: "10.0.0.2:7946"}},
			status: &Status{Members: []Member{{Name: "lima", Addr: "10.0.0.2:7946"}}}},
		"no-link": {unlinked: []unlinked{{name: "lima", id: "b", since: now.Add(-linkPatience), err: errors.New("refused")}}},
		"lagging": {lagging: []lagging{{id: "b", lack: 5, old: time.Minute}},
			status: &Status{Members: []Member{{Name: "lima", PeerID: "b", Linked: true}}}},
		"other-version": {status: &Status{Members: []Member{{Name: "lima", Problem: "speaks version 1"}}}},
		"same-id":       {sightings: same},
		"same-address":  {status: &Status{Members: two}},
		"address-gone":  {gone: "10.0.0.1:7946"},
		"not-caught-up": {late: []late{{"default", errLooking}}},
		"clock-off":     {status: &Status{ClockSkewed: []string{"lima"}}},
		"disk-low":      {status: &Status{FreeBytes: 1, MinFreeBytes: 2}},
		"damaged":       {status: &Status{Spaces: []SpaceStatus{{Space: "default", Damaged: true}}}},
		"forked":        {status: &Status{Spaces: []SpaceStatus{{Space: "default", Forks: []Fork{{Replica: "aa"}}}}}},
	} {
		if f.status == nil {
			f.status = &Status{}
		}
		f.now = now
		var ids []string
		for _, found := range f.find() {
			ids = append(ids, found.id)
		}
		if !slices.Equal(ids, []string{id}) {
			t.Errorf("%s: found %q", id, ids)
		}
	}
	for id := range ProblemIDs() {
		if kindOf(id).do == "" || kindOf(id).means == "" {
			t.Errorf("nothing is said of %s", id)
		}
	}
	well := facts{now: now, status: &Status{GossipAddr: "10.0.0.1:7946", FreeBytes: 2, MinFreeBytes: 1,
		Spaces: []SpaceStatus{{Space: "default"}}, Members: []Member{{Name: "lima", Addr: "10.0.0.2:7946", Alive: true}}},
		unlinked: []unlinked{{name: "lima", id: "b", since: now.Add(-linkPatience / 2)}}}
	if found := well.find(); len(found) > 0 {
		t.Errorf("found where all is well: %v", found)
	}
}

// TestOneOfSeveralHostsOfAMachineIsNamed has hosts of one IP address, of which some are gone and one uses another
// cluster key.
func TestOneOfSeveralHostsOfAMachineIsNamed(t *testing.T) {
	now := time.Now()
	here := []Member{{Name: "lima", Addr: "10.0.0.2:7946"}, {Name: "older", Addr: "10.0.0.2:7950", Since: now.Add(-time.Hour)},
		{Name: "kyoto", Addr: "10.0.0.2:7950", Since: now}, {Name: "oslo", Addr: "10.0.0.2:7954", Alive: true},
		{Name: "was oslo", Addr: "10.0.0.2:7954"}}
	came, joined := members.OtherKeyHere, members.OtherKeyThere
	for _, c := range []struct {
		what string
		seen []members.Sighting
		want string
	}{
		{"joined at its address", []members.Sighting{{Kind: came, Addr: "10.0.0.2"}, {Kind: joined, Addr: "10.0.0.2:7950", Asked: "seed:7950"}},
			"key-left-out 10.0.0.2:7950 kyoto at"},
		{"packets of it come", []members.Sighting{{Kind: came, Addr: "10.0.0.2:7946"}, {Kind: joined, Addr: "10.0.0.2:7946", Asked: "10.0.0.2"}},
			"key-left-out 10.0.0.2:7946 lima at"},
		{"a connection from there", []members.Sighting{{Kind: came, Addr: "10.0.0.2"}}, "other-key 10.0.0.2 a host at"},
		{"another process", []members.Sighting{{Kind: came, Addr: "10.0.0.2:9999"}}, "other-key 10.0.0.2:9999 a host at"},
		{"where a member is alive", []members.Sighting{{Kind: joined, Addr: "10.0.0.2:7954", Asked: "10.0.0.2:7954"}},
			"other-key 10.0.0.2:7954 10.0.0.2:7954, a host to join,"},
		{"a name to join", []members.Sighting{{Kind: joined, Addr: "10.0.0.9:7946", Asked: "seed"}},
			"other-key 10.0.0.9:7946 seed, a host to join,"},
	} {
		f := facts{now: now, sightings: c.seen, status: &Status{Members: here}}
		var found []string
		for _, p := range f.find() {
			found = append(found, fmt.Sprint(p.id, " ", p.subject, " ", p.what))
		}
		if len(found) != 1 || !strings.HasPrefix(found[0], c.want+" ") {
			t.Errorf("%s: found %q, want one %q", c.what, found, c.want)
		}
	}
}

func TestWhatADamageAndAForkAreAboutIsSaid(t *testing.T) {
	f := facts{status: &Status{
		Members: []Member{{Name: "lima", PeerID: "12D3KooWlima0001"}},
		Spaces: []SpaceStatus{{Space: "orders", Damaged: true, Reason: "it is rebuilt", HeldLogBytes: 300 << 20,
			Forks: []Fork{{Replica: "bb", Common: 7, There: []string{"12D3KooWlima0001"}, Here: []string{"12D3KooWgone0009"}}}}},
	}}
	var said []string
	for _, found := range f.find() {
		said = append(said, found.what)
	}
	want := []string{
		"data of space orders is damaged: it is rebuilt; until then 300.0 MiB of the log cannot be cut",
		"writes of replica bb in space orders exist in two versions after write 7; nothing of the space is exchanged with " +
			"lima (…lima0001); the version that is here is also at …gone0009",
	}
	if !slices.Equal(said, want) {
		t.Errorf("said is %q", said)
	}
}

func TestSpacesThatAreLateAreOneProblem(t *testing.T) {
	f := facts{status: &Status{}}
	for i := range 6 {
		f.late = append(f.late, late{fmt.Sprint("s", i), errLooking})
	}
	all := f.find()
	want := "this host is ready without what the others had when it started: space s0 is looking for the other peers, " +
		"space s1 is looking for the other peers, space s2 is looking for the other peers, space s3 is looking for the other " +
		"peers, and 2 more"
	if len(all) != 1 || all[0].what != want {
		t.Errorf("found %q", all)
	}
}

func TestAProblemIsSoSinceItBegan(t *testing.T) {
	var p problems
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	one, other := finding{"disk-low", "", "1 MiB"}, finding{"no-link", "b", "lima"}
	p.list([]finding{one}, at(1))
	all := p.list([]finding{{"disk-low", "", "2 MiB"}, other}, at(2))
	if len(all) != 2 || all[0].ID != "no-link" || all[1].Since != at(1) || all[1].What != "2 MiB" || all[0].Since != at(2) {
		t.Errorf("listed %v", all)
	}
	p.list(nil, at(3))
	if all := p.list([]finding{one}, at(4)); all[0].Since != at(4) {
		t.Errorf("what came again is so since %v", all[0].Since)
	}
}

// TestTheManualHasTheProblems compares the table in docs/operations.md with problemKinds.
func TestTheManualHasTheProblems(t *testing.T) {
	const file, begin, end = "../docs/operations.md", "<!-- problems -->\n", "<!-- end of problems -->"
	table := "| id | what | do |\n|---|---|---|\n"
	for _, k := range problemKinds {
		table += fmt.Sprintf("| `%s` | %s | %s |\n", k.id, k.means, k.do)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	had, after, closed := strings.Cut(rest, end)
	switch {
	case !ok || !closed:
		t.Fatal("the marks of the table are gone")
	case had == table:
	case *writeManual:
		if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("the table is not that of problemKinds: go test ./peer -run TheManualHas -write-manual")
	}
}

// wantProblem waits until a peer names a problem. Tests beside this one have each kind happen.
func wantProblem(t *testing.T, p *Peer, id string) {
	t.Helper()
	eventually(t, id+" is named", func() bool { return slices.Contains(problemIDs(t, p), id) })
}

// TestEachKindOfProblemHappensInATest looks for wantProblem, or its like in end-to-end tests, in all
// tests.
func TestEachKindOfProblemHappensInATest(t *testing.T) {
	here, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	there, err := filepath.Glob("../internal/e2e/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, file := range slices.Concat(here, there) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	for id := range ProblemIDs() {
		happens := regexp.MustCompile(`(wantProblem\(t, \w+, |\.has\()"` + id + `"`)
		if !happens.MatchString(tests.String()) {
			t.Errorf("%s happens in no test", id)
		}
	}
}

// problemIDs returns what is wrong at a peer.
func problemIDs(t *testing.T, p *Peer) (ids []string) {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range s.Problems {
		ids = append(ids, problem.ID)
	}
	return ids
}

func TestAHostThatReachesNobodySaysSo(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.Join = []string{nobody}
	p := c.start(cfg)
	wantProblem(t, p, "no-host-reached")
	other := c.add()
	if err := p.net.members.SetJoin([]string{other.net.members.Addr()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "somebody is", func() bool { return len(problemIDs(t, p)) == 0 })
}

// TestAHostThatHasMetNobodyAndIsToJoinNobodySaysSo is of a host that is started again without the
// hosts to join, as one that knows members may be.
func TestAHostThatHasMetNobodyAndIsToJoinNobodySaysSo(t *testing.T) {
	c := newCluster(t)
	other := c.add()
	at := other.net.members.Addr()
	mustClose(t, other)
	cfg := c.config(t.TempDir())
	cfg.Join = []string{at}
	p := c.start(cfg)
	eventually(t, "it is written down whom it is to join", func() bool {
		text, err := os.ReadFile(filepath.Join(cfg.Dir, knownFile))
		return err == nil && strings.Contains(string(text), at)
	})
	mustClose(t, p)
	cfg.Join = nil
	for range 2 {
		p = c.start(cfg)
		wantProblem(t, p, "joined-nobody")
		if what := mustStatus(t, p).Problems[0].What; !strings.Contains(what, at) {
			t.Errorf("whom it was to join is not said: %s", what)
		}
		if _, err := p.RotateKey(t.Context(), nil); !errors.Is(err, ErrKeyAlone) {
			t.Errorf("it gives itself a key: %v", err)
		}
		mustClose(t, p)
	}
	cfg.Join = []string{c.add().net.members.Addr()}
	p = c.start(cfg)
	c.meet(p, c.peers[len(c.peers)-2])
	mustClose(t, p)
	cfg.Join = nil
	p = c.start(cfg)
	c.meet(p, c.peers[len(c.peers)-3])
	if ids := problemIDs(t, p); len(ids) > 0 {
		t.Errorf("problems of one that knows members: %q", ids)
	}
}

// TestAHostThatIsToJoinItselfIsAClusterOfItsOwn has the list of hosts to join that all hosts of a
// cluster may have, with names.
func TestAHostThatIsToJoinItselfIsAClusterOfItsOwn(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.Gossip, cfg.Join = "0.0.0.0:"+port, []string{"localhost:" + port}
	p := c.start(cfg)
	eventually(t, "it finds that it is meant itself", func() bool { return p.net.members.Tried() && len(problemIDs(t, p)) == 0 })
	if change := changeKey(t, p, nil, (*Peer).RotateKey); !change.Done {
		t.Errorf("its key is not replaced: %+v", change)
	}
}

// TestAHostThatIsLeftAloneSaysSo though nobody named hosts to join.
func TestAHostThatIsLeftAloneSaysSo(t *testing.T) {
	c := newCluster(t)
	first, other := c.add(), c.add()
	c.meet(first, other)
	if ids := problemIDs(t, first); len(ids) > 0 {
		t.Errorf("problems of two that are linked: %q", ids)
	}
	mustClose(t, other)
	wantProblem(t, first, "no-host-reached")
	if _, err := first.RemoveMember(t.Context(), other.net.id.String()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is nobody to look for", func() bool { return len(problemIDs(t, first)) == 0 })
}

func TestHostsWithTwoClusterKeysBothSaySo(t *testing.T) {
	a := newCluster(t).add()
	c := newCluster(t)
	cfg := c.config(t.TempDir())
	cfg.Join = []string{a.net.members.Addr()}
	b := c.start(cfg)
	for _, p := range []*Peer{a, b} {
		wantProblem(t, p, "other-key")
	}
}

// TestAMemberWithoutALinkIsNamed cuts the data links of two hosts alone, which members cannot see.
func TestAMemberWithoutALinkIsNamed(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	eventually(t, "they are linked", func() bool { return links(a) == 1 && links(b) == 1 })
	known := func() *Member {
		s, err := a.Status()
		if err != nil || len(s.Members) != 1 {
			t.Fatalf("%v, %v", s.Members, err)
		}
		return &s.Members[0]
	}
	eventually(t, "what it lacks is known", func() bool { return known().TheyLack != nil && known().WeLack != nil })
	addrs := []string{b.net.addrs(nil)[0].String()}
	if err := b.net.host.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "they are not connected", func() bool {
		return a.net.host.Network().Connectedness(b.net.id) != libnet.Connected
	})
	for range 3 {
		if err := a.net.connect(t.Context(), b.net.id, addrs); err == nil || !strings.Contains(words.Of(err), "nothing listens") {
			t.Errorf("why it is not reached: %s", words.Of(err))
		}
	}
	eventually(t, "it is not linked any more", func() bool { return !known().Linked })
	if m := known(); m.TheyLack != nil || m.WeLack != nil {
		t.Errorf("without a link it lacks %d and we %d", *m.TheyLack, *m.WeLack)
	}
	wantProblem(t, a, "no-link")
	s, err := a.Status()
	if err != nil || strings.Contains(s.Problems[0].What, "dial") && strings.Contains(s.Problems[0].What, "\n") {
		t.Errorf("%q, %v", s.Problems[0].What, err)
	}
}
