package peer

import (
	"errors"

	"github.com/peerd/peerd/internal/secret"
	"github.com/peerd/peerd/internal/wire"
)

// keyRequest asks another member to change its keys. It travels on a stream of its own, after the
// proofs; a keyAnswer follows.
type keyRequest struct {
	step keyStep
	key  []byte // to hold: the key itself
	id   string // to use, or to be left alone with: the key's ClusterID
}

// keyStep is a step of the change of a cluster's key.
type keyStep uint64

const (
	stepHold   keyStep = 1 // accept a key
	stepUse    keyStep = 2 // begin what you begin with it
	stepRetire keyStep = 3 // accept no other any more
	stepTell   keyStep = 4 // change nothing, and tell whom you know
)

// Limits of messages about keys, in bytes.
const (
	maxKeyRequest = 1 << 10
	maxKeyAnswer  = MaxMembers*(maxPeerID+4) + 1<<10
	maxKeyID      = 64
	maxPeerID     = 128
	maxKeyProblem = 512
)

func (q keyRequest) encode() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(3)
		w.Uint(uint64(q.step))
		w.Bytes(q.key)
		w.String(q.id)
	})
}

// decodeKeyRequest reads what encode wrote. Fields that a newer version added are passed over.
func decodeKeyRequest(data []byte) (q keyRequest, err error) {
	err = wire.Decode(data, func(r *wire.Reader) {
		n := r.Array(16)
		if n < 3 {
			r.Fail("a request about keys of %d fields", n)
			return
		}
		q.step = keyStep(r.Uint())
		q.key = r.Bytes(secret.KeySize)
		q.id = r.String(maxKeyID)
		r.Skip(n - 3)
	})
	return q, err
}

// keyAnswer is how a request ended at the other side.
type keyAnswer struct {
	problem string   // empty if it was done
	members []string // whom the other side knows, by peer id; only to stepTell
}

func (a keyAnswer) encode() []byte {
	return wire.Encode(func(w *wire.Writer) {
		w.Array(2)
		w.String(a.problem[:min(len(a.problem), maxKeyProblem)])
		w.Array(len(a.members))
		for _, id := range a.members {
			w.String(id)
		}
	})
}

// decodeKeyAnswer reads what encode wrote.
func decodeKeyAnswer(data []byte) (a keyAnswer, err error) {
	err = wire.Decode(data, func(r *wire.Reader) {
		n := r.Array(16)
		if n < 2 {
			r.Fail("an answer about keys of %d fields", n)
			return
		}
		a.problem = r.String(maxKeyProblem)
		for range r.Array(MaxMembers) {
			a.members = append(a.members, r.String(maxPeerID))
		}
		r.Skip(n - 2)
	})
	return a, err
}

// apply returns the change of keys that a request asks for.
func (q keyRequest) apply(ring secret.Ring) (secret.Ring, error) {
	switch q.step {
	case stepHold:
		key, err := secret.FromBytes(q.key)
		if err != nil {
			return ring, err
		}
		return ring.Hold(key)
	case stepUse:
		return ring.Use(q.id)
	case stepRetire:
		if ring.InUse().ClusterID() != q.id {
			return ring, errors.New("this host uses another cluster key")
		}
		return ring.Retire(), nil
	case stepTell:
		return ring, nil
	}
	return ring, errors.New("this host does not know that step: it runs an older peerd")
}
