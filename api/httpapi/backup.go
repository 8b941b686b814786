package httpapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/peerd/peerd/peer"
)

// backupStall is how long a client may take to take a block of a backup, of about 1 MiB. One that
// is slower is closed: its backup holds on to space in the store.
const backupStall = time.Minute

// backupType is the media type of a backup.
const backupType = "application/vnd.peerd.backup"

// backup answers with a backup of one space, or of all. A client that goes away ends it. What
// ends before its end mark is no backup: the client sees a broken answer.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r, "space")
	data, err := s.data(q)
	if err != nil {
		answerProblem(w, err)
		return
	}
	out := &stream{w: w, control: http.NewResponseController(w), head: r.Method == http.MethodHead}
	info, err := data.Backup(r.Context(), out, nil)
	switch {
	case out.begun && out.head: // it has the headers, and no more was asked for
	case err == nil:
		s.log.Info("a backup was taken", "spaces", len(info.Spaces), "records", info.Records, "bytes", info.Bytes)
	case out.begun:
		s.log.Warn("a backup ended early", "error", err)
		panic(http.ErrAbortHandler) // the only way to break an answer off
	case errors.Is(err, peer.ErrBackupRuns):
		answerError(w, http.StatusConflict, err.Error())
	case errors.Is(err, peer.ErrNotHeld):
		answerProblem(w, err)
	default:
		answerProblem(w, err)
	}
}

// stream is a long answer: each part has its own deadline, and the headers go out with the first.
// Of one to HEAD there are the headers alone.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	head    bool
	begun   bool
}

// errHead ends a backup that was asked for by HEAD.
var errHead = errors.New("only the headers were asked for")

func (s *stream) Write(p []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", backupType)
		s.w.Header().Set("Content-Disposition", `attachment; filename="peerd.backup"`)
	}
	if s.head {
		return 0, errHead
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(backupStall)) // a recorder has none
	return s.w.Write(p)
}
