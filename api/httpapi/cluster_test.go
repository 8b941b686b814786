package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/peer"
)

// newPair returns servers of two peers of one cluster, and functions that cut and heal it.
func newPair(t *testing.T) (a, b *api, cut, heal func()) {
	t.Helper()
	var all []*api
	var cuts []*peer.Cut
	var addrs []string
	key := filepath.Join(t.TempDir(), "cluster.key")
	for i := range 2 {
		cfg := peer.Config{
			Dir: t.TempDir(), Name: fmt.Sprint("peer", i), ClusterKey: key, Join: addrs, Cut: &peer.Cut{},
			Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0", FastGossip: true, Durability: peer.None,
		}
		if i == 0 {
			cfg.ClusterKey, key = "", filepath.Join(cfg.Dir, "cluster.key")
		}
		p, err := peer.Open(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, s.GossipAddr)
		all, cuts = append(all, &api{t, New(Config{Peer: p}), p}), append(cuts, cfg.Cut)
	}
	cut = func() {
		cuts[0].Block(addrs[1])
		cuts[1].Block(addrs[0])
		for _, x := range all {
			for isLinked(t, x.p) {
				<-time.After(time.Millisecond)
			}
		}
	}
	heal = func() { cuts[0].Block(); cuts[1].Block() }
	return all[0], all[1], cut, heal
}

func isLinked(t *testing.T, p *peer.Peer) bool {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s.Members[0].Linked
}

// put writes a string with the token of what was written before, and returns the new token.
func (a *api) put(key, value, token string) string {
	a.t.Helper()
	return a.want(200, `{"changed":["`+key+`"]}`, "PUT", "/v1/keys/"+key+"?wait=20s",
		`{"type":"string","value":"`+value+`"}`, "X-Peerd-Token: "+token)
}

func TestAClientThatHandsOnItsTokenReadsItsWritesAtEveryPeer(t *testing.T) {
	a, b, cut, heal := newPair(t)
	token := ""
	for i := range 20 {
		value := fmt.Sprint("v", i)
		token = a.put("k", value, token)
		token = b.want(200, `{"key":"k","type":"string","value":"`+value+`"}`,
			"GET", "/v1/keys/k?wait=20s&token="+token, "")
		token = b.put("l", value, token)
		token = a.want(200, `{"key":"l","type":"string","value":"`+value+`","values":["`+value+`"]}`,
			"GET", "/v1/keys/l?conflicts=true&wait=20s&token="+token, "")
	}
	cut()
	before := token
	token = a.put("k", "cut", token)
	if detail := b.refused(504, "not-seen", "GET", "/v1/keys/k?wait=10ms&token="+token, ""); detail == "" {
		t.Error("the refusal does not say why")
	}
	b.want(200, `{"key":"k","type":"string","value":"v19"}`, "GET", "/v1/keys/k?token="+before, "")
	heal()
	b.want(200, `{"key":"k","type":"string","value":"cut"}`, "GET", "/v1/keys/k?wait=20s&token="+token, "")
}

func TestConflictsShowEveryConcurrentValue(t *testing.T) {
	a, b, cut, heal := newPair(t)
	start := a.put("text", "old", "")
	b.want(200, `{"key":"text","type":"string","value":"old"}`, "GET", "/v1/keys/text?wait=20s&token="+start, "")
	cut()
	mine := a.tx(`{"changed":["m","n","text"],"results":[{"changed":true},{"changed":true,"count":1},{"changed":true},
			{"changed":true}]}`,
		`{"op":"string.set","path":["text"],"value":"mine"}`,
		`{"op":"set.add","path":["n"],"elements":["e"]}`,
		`{"op":"string.set","path":["m","f"],"value":"v"}`,
		`{"op":"flag.enable","path":["m","g"]}`)
	theirs := b.tx(`{"changed":["m","n","text"],"results":[{"changed":true},{"changed":true},{"changed":true,"value":7}]}`,
		`{"op":"string.set","path":["text"],"value":"theirs"}`,
		`{"op":"string.set","path":["n"],"value":"s"}`,
		`{"op":"counter.add","path":["m","g"],"by":7}`)
	heal()
	for _, side := range []*api{a, b} {
		for _, token := range []string{mine, theirs} {
			w := side.do("GET", "/v1/keys/text?conflicts=true&wait=20s&token="+token, "")
			var e entry
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			slices.Sort(e.Values)
			both := slices.Equal(e.Values, []octets{"mine", "theirs"})
			if token == theirs && (!both || *e.Value != "mine" && *e.Value != "theirs") {
				t.Errorf("%s", w.Body)
			}
		}
		shown := side.do("GET", "/v1/keys/text?conflicts=true", "").Body.String()
		side.refused(400, "bad-request", "PUT", "/v1/keys/text", shown)
		side.want(200, `{"key":"n","type":"set","elements":["e"]}`, "GET", "/v1/keys/n", "")
		side.want(200, `{"key":"n","type":"set","elements":["e"],
			"also":[{"type":"string","value":"s","values":["s"]}]}`, "GET", "/v1/keys/n?conflicts=true", "")
		side.want(200, `{"key":"m","type":"map","fields":[{"name":"f","type":"string","value":"v"},
			{"name":"g","type":"string","value":"7"}]}`, "GET", "/v1/keys/m", "")
		side.want(200, `{"key":"m","type":"map","fields":[{"name":"f","type":"string","value":"v","values":["v"]},
			{"name":"g","type":"string","value":"7","values":["7"]},
			{"name":"g","type":"flag","enabled":true}]}`, "GET", "/v1/keys/m?conflicts=true", "")
		side.want(200, `{"keys":[{"key":"m","types":["map"]},{"key":"n","types":["set","string"]},
			{"key":"text","types":["string"]}]}`, "GET", "/v1/keys", "")
	}
	token := a.put("text", "both", "")
	b.want(200, `{"key":"text","type":"string","value":"both","values":["both"]}`,
		"GET", "/v1/keys/text?conflicts=true&wait=20s&token="+token, "")
}

// A client whose connection ends again and again, and who goes on with its last id at whichever peer, is told
// each change exactly once.
func TestEventsGoOnAtEitherPeerWithoutGapOrRepeat(t *testing.T) {
	a, b, _, _ := newPair(t)
	atA, _ := a.serve()
	atB, _ := b.serve()
	const writes = 300
	want := map[octets]int{}
	for i := range 2 * writes {
		want[octets(fmt.Sprintf("k:%d", i))] = 1
	}
	first := a.put("start", "v", "")
	var writing sync.WaitGroup
	for i, side := range []*api{a, b} {
		writing.Go(func() {
			for n := range writes {
				side.enable(fmt.Sprintf("k:%d", i*writes+n))
			}
		})
	}
	told := map[octets]int{}
	last, query := "", "prefix=k:&since="+url.QueryEscape(first)
	for i := 0; len(told) < len(want); i++ {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", []string{atA, atB}[i%2]+"/v1/watch?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		s := a.source(r)
		for range 1 + i%4 {
			e, ok := s.next()
			if !ok || e.name == "reset" {
				t.Fatalf("event %q; told %d of %d", e.name, len(told), len(want))
			}
			for _, key := range e.Keys {
				told[key]++
			}
			if last = e.id; len(told) == len(want) {
				break
			}
		}
		s.resp.Body.Close()
		cancel()
	}
	writing.Wait()
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
