package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/peerd/peerd/peer"
)

// spaces lists the spaces that this host holds.
type spaces struct {
	Spaces []peer.SpaceStatus `json:"spaces"`
}

func (s *Server) listSpaces(w http.ResponseWriter, r *http.Request) error {
	if q := queryOf(r); q.err != nil {
		return q.err
	}
	status, err := s.peer.Status()
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, spaces{status.Spaces})
	return nil
}

// maxDrop is how long dropping a space may take.
const maxDrop = 30 * time.Second

// dropSpace ends this host's part in a space and deletes its copy.
func (s *Server) dropSpace(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r, "force")
	force := q.boolean("force")
	if q.err != nil {
		return q.err
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxDrop)
	defer cancel()
	name := r.PathValue("space")
	if err := s.peer.DropSpace(ctx, name, force); err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, map[string]string{"dropped": name})
	return nil
}
