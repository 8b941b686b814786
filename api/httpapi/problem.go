package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/words"
	"github.com/peerd/peerd/peer"
)

// problem is an error as it is answered: application/problem+json (RFC 9457). Its code is for
// programs, its detail for people: it says what to do.
type problem struct {
	Title  string `json:"title"` // the status in words
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	// Missing is how many writes of which replica are not here, that a token names.
	Missing map[string]uint64 `json:"missing,omitempty"`
	// Change is how far each host has come with a change of the cluster's key that is not done.
	Change *peer.KeyChange `json:"change,omitempty"`
}

// Error implements error.
func (p *problem) Error() string { return p.Detail }

func refuse(status int, code, detail string) *problem {
	return &problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

func badRequest(detail string) *problem {
	return refuse(http.StatusBadRequest, "bad-request", detail)
}

// retryAfter is how many seconds a client may wait before it asks again what cannot be answered
// now.
const retryAfter = 1

// knownProblems are the errors of the layers below that have a status of their own.
var knownProblems = []struct {
	err    error
	status int
	code   string
}{
	{crdt.ErrNotInteger, http.StatusConflict, "not-an-integer"},
	{crdt.ErrOverflow, http.StatusConflict, "overflow"},
	{crdt.ErrTooLong, http.StatusRequestEntityTooLarge, "too-long"},
	{peer.ErrTooLarge, http.StatusRequestEntityTooLarge, "too-large"},
	{peer.ErrToken, http.StatusBadRequest, "bad-token"},
	{peer.ErrTooManyReplicas, http.StatusNotImplemented, "too-many-replicas"},
	{peer.ErrKeyChangeRuns, http.StatusConflict, "key-change-runs"},
	{peer.ErrKeyChangeOpen, http.StatusConflict, "key-change-open"},
	{peer.ErrUnknownMember, http.StatusBadRequest, "unknown-member"},
	{peer.ErrTooManyInvitations, http.StatusTooManyRequests, "too-many-invitations"},
	{peer.ErrSeveralMembers, http.StatusBadRequest, "several-members"},
	{peer.ErrRemoveSelf, http.StatusConflict, "this-host"},
	{peer.ErrSpaceName, http.StatusBadRequest, "bad-space"},
	{peer.ErrNotHeld, http.StatusNotFound, "not-held"},
	{peer.ErrLeaving, http.StatusServiceUnavailable, "leaving"},
	{peer.ErrTooManySpaces, http.StatusInsufficientStorage, "too-many-spaces"},
	{peer.ErrUnreplicated, http.StatusConflict, "unreplicated"},
	{peer.ErrReadOnly, http.StatusForbidden, "read-only"},
	{peer.ErrNoSpace, http.StatusInsufficientStorage, "disk-full"},
	{peer.ErrRebuilding, http.StatusServiceUnavailable, "rebuilding"},
	{peer.ErrClosed, http.StatusServiceUnavailable, "closing"},
}

// problemOf returns how an error is answered, in words. One that is not known is mostly the
// store's, which says what to do.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		at := *p
		at.Detail = err.Error() // ours: most misses of a key come here
		return &at
	}
	var unseen *peer.NotSeenError
	if errors.As(err, &unseen) {
		p := refuse(http.StatusGatewayTimeout, "not-seen", err.Error())
		if errors.Is(err, peer.ErrLost) {
			p = refuse(http.StatusGone, "lost", err.Error())
		}
		p.Missing = unseen.Missing
		return p
	}
	for _, known := range knownProblems {
		if errors.Is(err, known.err) {
			return refuse(known.status, known.code, words.Of(err))
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return refuse(http.StatusServiceUnavailable, "busy", "this peer did not come to it in time, and nothing was done: ask again")
	}
	return refuse(http.StatusServiceUnavailable, "unavailable", words.Of(err))
}

func answerProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	answerAs(w, p.Status, "application/problem+json", p)
}

// answerError answers with a problem whose code is that of the status.
func answerError(w http.ResponseWriter, status int, text string) {
	code := map[int]string{
		http.StatusNotFound:           "no-such-path",
		http.StatusMethodNotAllowed:   "method-not-allowed",
		http.StatusMisdirectedRequest: "foreign-host",
		http.StatusUnauthorized:       "no-password",
		http.StatusTooManyRequests:    "too-many-attempts",
		http.StatusForbidden:          "foreign-site",
		http.StatusServiceUnavailable: "unavailable",
	}[status]
	if code == "" {
		code = "refused"
	}
	answerProblem(w, refuse(status, code, text))
}
