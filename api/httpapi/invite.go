package httpapi

import (
	"net/http"

	"github.com/peerd/peerd/peer"
)

// Inviter opens invitations: a *peer.Peer.
type Inviter interface {
	Invite() (peer.Invitation, error)
}

func (s *Server) invite(w http.ResponseWriter, r *http.Request) error {
	if q := queryOf(r); q.err != nil {
		return q.err
	}
	inv, err := s.peer.Invite()
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, inv)
	return nil
}
