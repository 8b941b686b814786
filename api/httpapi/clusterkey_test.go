package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/peer"
)

var halfWay = peer.KeyChange{Key: "0123456789abcdef", Hosts: []peer.KeyHost{
	{Name: "oslo", PeerID: "a", State: peer.KeyAccepted},
	{Name: "lima", PeerID: "b", State: "does not answer", Problem: true},
}}

// change answers both changes of a key, and knows the members a and b.
func (f *fakePeer) change(without []string) (peer.KeyChange, error) {
	for _, id := range without {
		if !slices.Contains([]string{"a", "b"}, id) {
			return peer.KeyChange{}, fmt.Errorf("%q: %w", id, peer.ErrUnknownMember)
		}
	}
	change := halfWay
	if change.Done = f.rotated; f.rotated {
		change.Hosts = change.Hosts[:1]
	}
	return change, f.broken
}

func (f *fakePeer) RotateKey(_ context.Context, without []string) (peer.KeyChange, error) {
	return f.change(without)
}

func (f *fakePeer) RetireKeys(_ context.Context, without []string) (peer.KeyChange, error) {
	return f.change(without)
}

func TestAChangeOfTheKeyIsAnsweredWithHowFarItHasCome(t *testing.T) {
	for _, test := range []struct {
		method, path string
		peer         fakePeer
		code         int
	}{
		{"POST", "/v1/cluster-key/rotate", fakePeer{rotated: true}, 200},
		{"POST", "/v1/cluster-key/rotate", fakePeer{}, 409},
		{"POST", "/v1/cluster-key/retire", fakePeer{}, 409},
		{"POST", "/v1/cluster-key/retire?without=a&without=b", fakePeer{rotated: true}, 200},
		{"POST", "/v1/cluster-key/rotate?without=c", fakePeer{}, 400},
		{"POST", "/v1/cluster-key/rotate", fakePeer{broken: peer.ErrKeyChangeRuns}, 409},
		{"POST", "/v1/cluster-key/retire", fakePeer{broken: peer.ErrKeyChangeOpen}, 409},
		{"POST", "/v1/cluster-key/rotate", fakePeer{broken: peer.ErrClosed}, 503},
		{"POST", "/v1/cluster-key/rotate", fakePeer{broken: context.DeadlineExceeded}, 409},
		{"POST", "/v1/cluster-key/retire", fakePeer{broken: context.DeadlineExceeded}, 409},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(test.method, test.path, nil)
		r.Host = "localhost"
		New(Config{Peer: &test.peer}).ServeHTTP(w, r)
		if w.Code != test.code {
			t.Errorf("%s %s: answered %d: %s", test.method, test.path, w.Code, w.Body)
		}
		conforms(t, r, "", w)
		var got struct {
			peer.KeyChange
			Code   string
			Change *peer.KeyChange
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if w.Code == 200 && (!got.Done || len(got.Hosts) != 1) {
			t.Errorf("%s %s: answered %s", test.method, test.path, w.Body)
		}
		late := errors.Is(test.peer.broken, context.DeadlineExceeded)
		if notDone := w.Code == 409 && (late || test.peer.broken == nil); notDone && got.Code != "key-change-not-done" || notDone != (got.Change != nil) {
			t.Errorf("%s %s: answered %s", test.method, test.path, w.Body)
		} else if notDone {
			if diff := cmp.Diff(halfWay, *got.Change); diff != "" {
				t.Error(diff)
			}
		}
	}
}
