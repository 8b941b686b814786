package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The spaces, by who holds them. Their names are those that Redis clients can select.
const (
	ofAll = "db1"
	ofTwo = "db2" // of the first two hosts
	ofOne = "db3" // of the first host
)

var allSpaces = []string{ofAll, ofTwo, ofOne}

// TestSpacesAreOnlyWhereTheyAreSubscribedTo has three hosts, of which each holds one space less than the one before.
func TestSpacesAreOnlyWhereTheyAreSubscribedTo(t *testing.T) {
	n, _ := openNetwork(t)
	_, seed := randomFaults(t)
	c := newCluster(t, n, []string{"--spaces", ofAll + "," + ofTwo + "," + ofOne},
		[]string{"--spaces", ofAll + "," + ofTwo}, []string{"--spaces", ofAll})
	c.note("three peers on %s", n.describe())
	c.writeToSpaces()
	bulk := c.sendBulk(seed)
	c.refuseToDrop(0)
	c.killHolderOfSpaces(seed)
	c.subscribeLater(bulk)
	c.dropSpace(bulk)
	c.dropLastCopy()
	for _, p := range c.peers {
		all, err := p.spaces()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if s.Mismatches > 0 || len(s.Forks) > 0 {
				t.Errorf("%s saw in %s %d mismatches and the forks %v", p.name, s.Space, s.Mismatches, s.Forks)
			}
		}
		p.stop()
	}
	c.note("all ended as asked")
}

// holders returns the peers that hold a space, and those that do not, as long as nobody subscribes to more.
func (c *cluster) holders(space string) (its, others []*daemon) {
	n := len(c.peers) - slices.Index(allSpaces, space)
	return c.peers[:n], c.peers[n:]
}

// writeToSpaces writes to each space at each of its hosts, over HTTP and over Redis. All of them show all of it, under
// the same keys as in other spaces, and nobody else any.
func (c *cluster) writeToSpaces() {
	c.t.Helper()
	for _, space := range allSpaces {
		its, _ := c.holders(space)
		for _, p := range its {
			p.put(space, "http "+p.name, space+" over HTTP")
			p.runIn(space, command{"SET", "redis " + p.name, space + " over Redis"})
		}
	}
	for i, p := range c.peers {
		p.checkHolds(append([]string{"peerd"}, allSpaces[:len(allSpaces)-i]...)...)
	}
	for _, space := range allSpaces {
		its, others := c.holders(space)
		c.awaitSpace(space, its...)
		for _, p := range its {
			for _, by := range its {
				p.checkValue(space, "http "+by.name, space+" over HTTP")
				p.checkValue(space, "redis "+by.name, space+" over Redis")
			}
			if n := p.runIn(space, command{"DBSIZE"})[0]; n != int64(2*len(its)) {
				c.t.Errorf("%s has %v keys in %s, want %d", p.name, n, space, 2*len(its))
			}
		}
		for _, p := range others {
			p.checkHoldsNot(space)
		}
	}
	for _, p := range c.peers {
		p.checkHoldsNot("default") // nobody named it
	}
	c.note("writes over HTTP and Redis are on those hosts that hold their space, and on no other")
}

const (
	bulkValues = 12
	bulkValue  = 48 << 10 // bytes, before they are text
)

// sendBulk writes much to the spaces that not all hold, and returns it by its keys. It does not come to those who do
// not hold them.
func (c *cluster) sendBulk(seed uint64) map[string]string {
	c.t.Helper()
	bulk := map[string]string{}
	random, size := rand.NewChaCha8([32]byte{byte(seed)}), uint64(0)
	for i := range bulkValues {
		value := make([]byte, bulkValue)
		_, _ = random.Read(value)
		text := base64.StdEncoding.EncodeToString(value)
		bulk[fmt.Sprintf("bulk %d", i)] = text
		size += bulkValue
	}
	before := c.received()
	for key, value := range bulk {
		c.peers[0].put(ofTwo, key, value)
		c.peers[0].runIn(ofOne, command{"SET", key, value})
	}
	c.peers[0].put(ofAll, "after", "the bulk")
	c.awaitSpace(ofTwo, c.peers[:2]...)
	c.awaitSpace(ofAll, c.peers...)
	came := c.receivedSince(before)
	c.note("each of two spaces got %s; %s received %v, %s %v", kilobytes(size), c.peers[1].name, came[1], c.peers[2].name, came[2])
	for key, value := range bulk {
		c.peers[1].checkValue(ofTwo, key, value)
	}
	// As few bytes as random ones can be sent in, and less than those of two spaces.
	if two := came[1]; two.frames < size || two.frames > size*3/2 || two.known && (two.wire < size || two.wire > size*7/4) {
		c.t.Errorf("%s holds one of the spaces and received %v", c.peers[1].name, two)
	}
	if three := came[2]; three.frames > size/20 || three.known && three.wire > size/4 {
		c.t.Errorf("%s holds none of the spaces and received %v", c.peers[2].name, three)
	}
	s, err := c.peers[0].space(ofOne)
	if err != nil || s.BytesSent > 0 || s.Neighbours > 0 {
		c.t.Errorf("%s sent %d bytes of its own space to %d neighbours (%v)", c.peers[0].name, s.BytesSent, s.Neighbours, err)
	}
	return bulk
}

// intake is what a host has received.
type intake struct {
	wire, frames uint64
	known        bool // wire is
}

func (i intake) String() string {
	if !i.known {
		return kilobytes(i.frames) + " in frames"
	}
	return kilobytes(i.frames) + " in frames and " + kilobytes(i.wire) + " on the wire"
}

func (c *cluster) received() (all []intake) {
	c.t.Helper()
	for i, p := range c.peers {
		s, err := p.status()
		if err != nil {
			c.t.Fatal(err)
		}
		wire, known := c.net.received(i)
		all = append(all, intake{wire, s.BytesReceived, known})
	}
	return all
}

func (c *cluster) receivedSince(before []intake) []intake {
	c.t.Helper()
	all := c.received()
	for i, b := range before {
		all[i].wire -= b.wire
		all[i].frames -= b.frames
	}
	return all
}

// refuseToDrop has a peer keep its space, of which nobody else has anything.
func (c *cluster) refuseToDrop(peer int) {
	c.t.Helper()
	p := c.peers[peer]
	p.put(ofOne, "only", "here")
	before, err := p.space(ofOne)
	if err != nil {
		c.t.Fatal(err)
	}
	if a := p.ask(http.MethodDelete, "/v1/spaces/"+ofOne, nil); a.status != http.StatusConflict || a.Code != "unreplicated" {
		c.t.Errorf("%s was asked to drop the only copy of %s and answered %d %s", p.name, ofOne, a.status, a.Code)
	}
	out, err := p.command("space", "drop", ofOne, "--http", c.net.addresses(p.host).http)
	if exitCode(err) != 1 || !strings.Contains(out, "no other member is known to have all that is here") {
		c.t.Errorf("peerd space drop of the only copy ended with %v and said: %s", err, out)
	}
	p.checkValue(ofOne, "only", "here")
	p.put(ofOne, "only", "still here")
	after, err := p.space(ofOne)
	if err != nil || after.Keys != before.Keys {
		c.t.Errorf("%s has %d keys in %s after the refusal, had %d (%v)", p.name, after.Keys, ofOne, before.Keys, err)
	}
	c.note("%s does not drop the only copy of a space", p.name)
}

// killHolderOfSpaces kills the host that holds all spaces while clients write to each of them. Its clients read back
// all that was acknowledged, of the space too that nobody else could give it back.
func (c *cluster) killHolderOfSpaces(seed uint64) {
	c.t.Helper()
	const enough = 300
	p := c.peers[0]
	ws := newWriters(seed) // of no peer
	for _, space := range allSpaces {
		for range 2 {
			w := newWriter(p, fmt.Sprintf("%s-%d", space, len(ws.all)), seed+uint64(len(ws.all)))
			w.space = space
			ws.all = append(ws.all, w)
		}
	}
	in := func(space string) (its []*writer) {
		for _, w := range ws.all {
			if w.space == space {
				its = append(its, w)
			}
		}
		return its
	}
	ws.start()
	for _, space := range allSpaces {
		awaitWrites(c.t, in(space), enough)
	}
	p.kill()
	p.start()
	for _, space := range allSpaces {
		awaitWrites(c.t, in(space), enough/10) // each writer reads before it writes on
	}
	ws.pause()
	for _, space := range allSpaces {
		its, _ := c.holders(space)
		c.awaitSpace(space, its...)
		for _, p := range its {
			c.checkWriters(p, in(space))
		}
	}
	c.note("killed %s while it wrote to three spaces; all of %d writes are there", p.name, acknowledged(ws.all))
}

// checkWriters fails the test unless a peer shows all that was acknowledged to writers of one space.
func (c *cluster) checkWriters(p *daemon, ws []*writer) {
	c.t.Helper()
	client, err := p.selected(ws[0].space)
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.close()
	for _, w := range ws {
		s, err := w.read(client)
		if err != nil {
			c.t.Fatalf("read from %s: %v", p.name, err)
		}
		w.compare(c.t, p, s)
		w.settle(s)
	}
}

// subscribeLater restarts the third host with one space more: it gets all that is in it.
func (c *cluster) subscribeLater(bulk map[string]string) {
	c.t.Helper()
	one, two, p := c.peers[0], c.peers[1], c.peers[2]
	before := c.received()
	p.stop()
	p.args = append(p.args, "--spaces", ofOne) // besides those that are named already
	p.start()
	c.awaitSpace(ofOne, one, p)
	p.checkHolds("peerd", ofAll, ofOne)
	for key, value := range bulk {
		p.checkValue(ofOne, key, value)
	}
	p.checkValue(ofOne, "only", "still here")
	p.checkHoldsNot(ofTwo)
	two.checkHoldsNot(ofOne)
	p.put(ofOne, "back", "from "+p.name)
	c.awaitSpace(ofOne, one, p)
	one.checkValue(ofOne, "back", "from "+p.name)

	now, size := c.received(), uint64(bulkValues*bulkValue)
	came := now[2].frames // its counter began anew
	if came < size {
		c.t.Errorf("%s shows %s of a space and received %s", p.name, kilobytes(size), kilobytes(came))
	}
	if wire := now[1].wire - before[1].wire; now[1].known && wire > size/2 {
		c.t.Errorf("%s does not hold the space and received %s meanwhile", two.name, kilobytes(wire))
	}
	c.note("%s subscribed to a space that was full, and received %s", p.name, kilobytes(came))
}

// dropSpace has the first host drop a space that the third one has as well, and take it up again by a write.
func (c *cluster) dropSpace(bulk map[string]string) {
	c.t.Helper()
	one, three := c.peers[0], c.peers[2]
	kept, err := three.space(ofOne)
	if err != nil {
		c.t.Fatal(err)
	}
	if out, err := one.command("space", "drop", ofOne, "--http", c.net.addresses(one.host).http); err != nil {
		c.t.Fatalf("peerd space drop: %v\n%s", err, out)
	}
	one.checkGone(ofOne)
	one.checkHolds("peerd", ofAll, ofTwo)
	three.put(ofOne, "since", "it was dropped elsewhere")
	three.put(ofAll, "since", "it was dropped elsewhere")
	c.awaitSpace(ofAll, c.peers...)
	one.checkGone(ofOne)
	if s, err := three.space(ofOne); err != nil || s.Keys != kept.Keys+1 || s.Neighbours != 0 {
		c.t.Errorf("%s has %d keys of the space with %d neighbours, had %d and wrote one (%v)", three.name, s.Keys,
			s.Neighbours, kept.Keys, err)
	}
	one.checkValue(ofTwo, "http "+one.name, ofTwo+" over HTTP")
	c.note("%s dropped a space; %s keeps it", one.name, three.name)

	one.put(ofOne, "taken up", "by a write")
	c.awaitSpace(ofOne, one, three)
	for _, p := range []*daemon{one, three} {
		p.checkValue(ofOne, "since", "it was dropped elsewhere")
		p.checkValue(ofOne, "taken up", "by a write")
		for key, value := range bulk {
			p.checkValue(ofOne, key, value)
		}
	}
	c.note("a write took it up again, with all that it has elsewhere")
}

// dropLastCopy drops a space at one host after the other: the last copy goes only by force, and it goes for good.
func (c *cluster) dropLastCopy() {
	c.t.Helper()
	one, three := c.peers[0], c.peers[2]
	if a := one.ask(http.MethodDelete, "/v1/spaces/"+ofOne, nil); a.status != http.StatusOK {
		c.t.Fatalf("%s answered %d %s: %s", one.name, a.status, a.Code, a.Detail)
	}
	c.refuseToDrop(2)
	out, err := three.command("space", "drop", ofOne, "--force", "--http", c.net.addresses(three.host).http)
	if err != nil {
		c.t.Fatalf("peerd space drop --force: %v\n%s", err, out)
	}
	three.checkGone(ofOne)
	three.checkHolds("peerd", ofAll)
	three.kill()
	three.start() // its --spaces names the space
	three.checkHolds("peerd", ofAll, ofOne)
	three.eventually("is ready", func() error { return three.get("/readyz", nil) })
	if a := three.askKey(http.MethodGet, ofOne, "only", nil); a.status != http.StatusNotFound || a.Code == "not-held" {
		c.t.Errorf("a key of a space that was dropped and named again: %d %s, want that there is no such key", a.status, a.Code)
	}
	if n := three.runIn(ofOne, command{"DBSIZE"})[0]; n != int64(0) {
		c.t.Errorf("the space was dropped and named again, and has %v keys", n)
	}
	one.checkGone(ofOne)
	c.awaitSpace(ofAll, c.peers...)
	c.awaitSpace(ofTwo, c.peers[:2]...)
	for _, p := range c.peers {
		p.checkValue(ofAll, "since", "it was dropped elsewhere")
	}
	c.note("the last copy went by force, and is nowhere")
}

// spaceStatus is what the test looks at of one space in /v1/spaces.
type spaceStatus struct {
	Space       string `json:"space"`
	ContextHash string `json:"context_hash"`
	Root        string `json:"root"`
	Settled     bool   `json:"settled"`
	Ready       bool   `json:"ready"`
	Reason      string `json:"reason"`
	Keys        int    `json:"keys"`
	Neighbours  int    `json:"neighbours"`
	BytesSent   uint64 `json:"bytes_sent"`
	Mismatches  uint64 `json:"mismatches"`
	Forks       []any  `json:"forks"`
}

func (d *daemon) spaces() ([]spaceStatus, error) {
	var told struct{ Spaces []spaceStatus }
	err := d.get("/v1/spaces", &told)
	return told.Spaces, err
}

// space returns the status of a space that the host holds.
func (d *daemon) space(name string) (spaceStatus, error) {
	all, err := d.spaces()
	for _, s := range all {
		if s.Space == name {
			return s, nil
		}
	}
	return spaceStatus{}, errors.Join(err, fmt.Errorf("%s does not hold %s", d.name, name))
}

// awaitSpace waits until the peers hold the same of a space.
func (c *cluster) awaitSpace(name string, peers ...*daemon) {
	c.t.Helper()
	eventually(c.t, "the peers agree on "+name, func() error {
		var first spaceStatus
		for i, p := range peers {
			s, err := p.space(name)
			if i == 0 {
				first = s
			}
			switch {
			case err != nil:
				return err
			case !s.Settled || !s.Ready:
				return fmt.Errorf("at %s it is not ready, or still swept: %s", p.name, s.Reason)
			case s.ContextHash != first.ContextHash:
				return fmt.Errorf("%s and %s have seen different writes", peers[0].name, p.name)
			case s.Root != first.Root:
				return fmt.Errorf("%s and %s have seen the same writes and differ", peers[0].name, p.name)
			}
		}
		return nil
	})
}

// checkHolds fails the test unless a host holds these spaces and no others, says its status and says its command line.
func (d *daemon) checkHolds(want ...string) {
	d.t.Helper()
	slices.Sort(want)
	var told struct{ Spaces []spaceStatus }
	at := d.net.addresses(d.host).http
	out, err := d.command("status", "--json", "--http", at)
	if err == nil {
		err = json.Unmarshal([]byte(out), &told)
	}
	var got []string
	for _, s := range told.Spaces {
		got = append(got, s.Space)
	}
	if slices.Sort(got); err != nil || !slices.Equal(got, want) {
		d.t.Errorf("peerd status of %s tells of the spaces %v (%v), want %v", d.name, got, err, want)
	}
	list, err := d.command("space", "list", "--http", at)
	var listed []string
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(line, " "); name != "SPACE" {
			listed = append(listed, name)
		}
	}
	if slices.Sort(listed); err != nil || !slices.Equal(listed, want) {
		d.t.Errorf("peerd space list of %s (%v), want %v:\n%s", d.name, err, want, list)
	}
}

// checkHoldsNot fails the test unless a host says of a space, to readers and writers, that it is not to hold it.
func (d *daemon) checkHoldsNot(space string) {
	d.t.Helper()
	d.checkGone(space)
	why := fmt.Sprintf("this host does not hold the space %q: name it in --spaces (Config.Spaces)", space)
	if a := d.askKey(http.MethodPut, space, "k", "v"); a.status != http.StatusNotFound || a.Code != "not-held" || a.Detail != why {
		d.t.Errorf("a write to %s at %s: %d %s: %s", space, d.name, a.status, a.Code, a.Detail)
	}
	c, err := d.selected(space)
	if err == nil { // the default one is there without SELECT
		_, err = c.must([]command{{"SET", "k", "v"}})
		c.close()
	}
	if err == nil || !strings.Contains(err.Error(), "ERR "+why) {
		d.t.Errorf("Redis clients of %s at %s are told %v, want that it does not hold it", space, d.name, err)
	}
}

// checkGone fails the test unless a host says to a reader that it does not hold a space.
func (d *daemon) checkGone(space string) {
	d.t.Helper()
	if s, err := d.space(space); err == nil {
		d.t.Errorf("%s holds %s, with %d keys", d.name, space, s.Keys)
	}
	if a := d.askKey(http.MethodGet, space, "http "+d.name, nil); a.status != http.StatusNotFound || a.Code != "not-held" {
		d.t.Errorf("a read of %s at %s: %d %s, want 404 not-held", space, d.name, a.status, a.Code)
	}
}

// checkValue fails the test unless a host shows this value, over HTTP and to Redis clients.
func (d *daemon) checkValue(space, key, want string) {
	d.t.Helper()
	if a := d.askKey(http.MethodGet, space, key, nil); a.status != http.StatusOK || a.Value != want {
		d.t.Errorf("%q of %s is %.80q at %s (%d %s), want %.80q", key, space, a.Value, d.name, a.status, a.Code, want)
	}
	if got := d.runIn(space, command{"GET", key})[0]; got != want {
		d.t.Errorf("GET %q of %s is %.80q at %s, want %.80q", key, space, got, d.name, want)
	}
}
