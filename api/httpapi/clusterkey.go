package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/peerd/peerd/peer"
)

// maxKeyChange is how long a change of the cluster's key may take. One that takes longer ends
// between two steps, which is safe.
const maxKeyChange = 2 * time.Minute

// KeyKeeper changes the cluster's key: a *peer.Peer.
type KeyKeeper interface {
	RotateKey(ctx context.Context, without []string) (peer.KeyChange, error)
	RetireKeys(ctx context.Context, without []string) (peer.KeyChange, error)
}

func (s *Server) rotateKey(w http.ResponseWriter, r *http.Request) error {
	return changeKey(w, r, s.peer.RotateKey)
}

func (s *Server) retireKeys(w http.ResponseWriter, r *http.Request) error {
	return changeKey(w, r, s.peer.RetireKeys)
}

// changeKey answers with how far a change of the cluster's key has come: as a problem, if it is
// not done. The key itself is never told.
func changeKey(w http.ResponseWriter, r *http.Request,
	change func(context.Context, []string) (peer.KeyChange, error)) error {
	q := queryOf(r, "without")
	if q.err != nil {
		return q.err
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxKeyChange)
	defer cancel()
	done, err := change(ctx, q.values["without"])
	if begun := done.Key != ""; err != nil && !(begun && errors.Is(err, context.DeadlineExceeded)) {
		return err
	}
	if !done.Done {
		p := refuse(http.StatusConflict, "key-change-not-done", "not every host has taken every step, and nothing is split: who has "+
			"not may still accept the old key: mend the hosts with a problem and ask again, or leave them out for ever")
		p.Change = &done
		return p
	}
	answerJSON(w, http.StatusOK, done)
	return nil
}
