package httpapi

import (
	"context"
	"net/http"

	"github.com/peerd/peerd/peer"
)

// MemberKeeper removes members and takes them back: a *peer.Peer.
type MemberKeeper interface {
	RemoveMember(ctx context.Context, which string) (peer.RemovedMember, error)
	AddMember(ctx context.Context, which string) (peer.RemovedMember, error)
	RemovedMembers(ctx context.Context) ([]peer.RemovedMember, error)
}

// memberList is the members that this host knows, and those that were removed.
type memberList struct {
	Members []peer.Member        `json:"members"`
	Removed []peer.RemovedMember `json:"removed"`
}

func (s *Server) listMembers(w http.ResponseWriter, r *http.Request) error {
	if q := queryOf(r); q.err != nil {
		return q.err
	}
	status, err := s.peer.Status()
	if err != nil {
		return err
	}
	removed, err := s.peer.RemovedMembers(r.Context())
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, memberList{status.Members, removed})
	return nil
}

func (s *Server) removeMember(w http.ResponseWriter, r *http.Request) error {
	return changeMember(w, r, s.peer.RemoveMember)
}

func (s *Server) addMember(w http.ResponseWriter, r *http.Request) error {
	return changeMember(w, r, s.peer.AddMember)
}

func changeMember(w http.ResponseWriter, r *http.Request,
	change func(context.Context, string) (peer.RemovedMember, error)) error {
	if q := queryOf(r); q.err != nil {
		return q.err
	}
	m, err := change(r.Context(), r.PathValue("member"))
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, m)
	return nil
}
