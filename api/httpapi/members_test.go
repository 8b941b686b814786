package httpapi

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/peerd/peerd/peer"
)

// member answers changes of members: it knows lima, and two that begin with b.
func (f *fakePeer) member(which string) (m peer.RemovedMember, err error) {
	switch {
	case which == "self":
		err = peer.ErrRemoveSelf
	case strings.HasPrefix(which, "b"):
		err = fmt.Errorf("%q: %w", which, peer.ErrSeveralMembers)
	case which != "lima":
		err = fmt.Errorf("%q: %w", which, peer.ErrUnknownMember)
	default:
		m = peer.RemovedMember{Name: "lima", PeerID: "a"}
	}
	return m, err
}

func (f *fakePeer) RemoveMember(_ context.Context, which string) (peer.RemovedMember, error) {
	return f.member(which)
}

func (f *fakePeer) AddMember(_ context.Context, which string) (peer.RemovedMember, error) {
	return f.member(which)
}

func (f *fakePeer) RemovedMembers(context.Context) ([]peer.RemovedMember, error) {
	return []peer.RemovedMember{{Name: "oslo", PeerID: "c"}}, f.broken
}

func (f *fakePeer) Invite() (peer.Invitation, error) {
	return peer.Invitation{Token: "abc", Expires: time.Unix(0, 0).UTC(), Addr: "192.0.2.1:7946"}, f.broken
}

func TestMembersAreListedRemovedAndAdded(t *testing.T) {
	for _, test := range []struct {
		method, path string
		code         int
		part         string
	}{
		{"GET", "/v1/members", 200, `"name": "oslo"`},
		{"DELETE", "/v1/members/lima", 200, `"peer_id": "a"`},
		{"PUT", "/v1/members/lima", 200, `"peer_id": "a"`},
		{"DELETE", "/v1/members/bob", 400, "name one by its id"},
		{"PUT", "/v1/members/nobody", 400, "unknown-member"},
		{"POST", "/v1/invitations", 200, `"token": "abc"`},
		{"GET", "/v1/invitations", 405, "method-not-allowed"},
		{"DELETE", "/v1/members/self", 409, "another one of the cluster"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(test.method, test.path, nil)
		r.Host = "localhost"
		New(Config{Peer: &fakePeer{status: peer.Status{Members: []peer.Member{}}}}).ServeHTTP(w, r)
		if w.Code != test.code || !strings.Contains(w.Body.String(), test.part) {
			t.Errorf("%s %s: answered %d: %s", test.method, test.path, w.Code, w.Body)
		}
		conforms(t, r, "", w)
	}
}
