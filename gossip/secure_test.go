package gossip

import (
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// securing is two meshes, of which the second has what the first wrote.
func newSecuring(t *testing.T) *net {
	w := newNet(t, 2)
	w.connectAll()
	w.cores[0].write(3)
	w.run()
	return w
}

// secure has the first ask for a dot of its own, and vouch tells the second that its log ends at a position and is synced
// up to another.
func (w *net) secure(counter uint64) {
	w.meshes[0].Secure(crdt.Dot{Replica: 1, Counter: counter})
	w.run()
}

func (w *net) vouch(end, synced uint64, told, waits bool) {
	w.t.Helper()
	if gotTold, gotWaits := w.meshes[1].Vouch(end, synced); gotTold != told || gotWaits != waits {
		w.t.Errorf("Vouch(%d, %d) = %v, %v; want %v, %v", end, synced, gotTold, gotWaits, told, waits)
	}
	w.run()
}

// expect checks what the first knows, and how many questions and answers were sent so far.
func (w *net) expect(counter uint64, questions, answers int) {
	w.t.Helper()
	got, asked, answered := w.meshes[0].Secured(id(1)), w.sent[kindSecure], w.sent[kindSecured]
	if got.Counter != counter || asked != questions || answered != answers {
		w.t.Errorf("%v is known to survive after %d questions and %d answers; want %d after %d and %d",
			got, asked, answered, counter, questions, answers)
	}
}

func TestNobodyVouchesUnasked(t *testing.T) {
	w := newSecuring(t)
	w.vouch(10, 10, false, false)
	w.secure(0)
	w.tick(50)
	w.expect(0, 0, 0)
}

// TestAnAnswerIsForWhatASyncWasFor and not for what came since.
func TestAnAnswerIsForWhatASyncWasFor(t *testing.T) {
	w := newSecuring(t)
	w.secure(2)
	w.vouch(10, 9, false, true)
	w.cores[0].write(2)
	w.run()
	w.vouch(20, 9, false, true)
	w.expect(0, 1, 0)
	w.vouch(20, 10, true, false)
	w.expect(3, 1, 1)
	w.vouch(20, 20, false, false)
	w.expect(3, 1, 1)
}

// TestOneQuestionIsAskedAtATime for all that is waited for meanwhile.
func TestOneQuestionIsAskedAtATime(t *testing.T) {
	w := newSecuring(t)
	w.secure(1)
	w.cores[0].write(1)
	w.secure(4)
	w.secure(4)
	w.expect(0, 1, 0)
	w.vouch(10, 10, true, false)
	w.expect(4, 1, 1) // that the second was for, too
	w.cores[0].write(2)
	w.secure(5)
	w.secure(6)
	w.secure(5)
	w.vouch(20, 20, true, false)
	w.expect(6, 2, 2)
}

// TestWhoLacksWhatItIsAskedForAnswersOnceItHasIt, and not before.
func TestWhoLacksWhatItIsAskedForAnswersOnceItHasIt(t *testing.T) {
	w := newSecuring(t)
	w.meshes[0].Hold()
	w.cores[0].write(1)
	w.secure(4)
	w.vouch(10, 10, false, false)
	w.expect(0, 1, 0)
	w.meshes[0].Release()
	w.run()
	w.vouch(20, 20, true, false)
	w.expect(4, 1, 1)
}

// TestWhatALinkWasToldEndsWithIt: who is linked again may have lost it.
func TestWhatALinkWasToldEndsWithIt(t *testing.T) {
	w := newSecuring(t)
	w.secure(3)
	w.vouch(10, 10, true, false)
	w.expect(3, 1, 1)
	w.connect(0, 1)
	w.run()
	w.expect(0, 1, 1)
	w.secure(3)
	w.vouch(10, 10, true, false)
	w.expect(3, 2, 2)
}

// TestWhoDiscardsWhatItHasTakesItsWordBack: what it was about to say, and what it has said.
func TestWhoDiscardsWhatItHasTakesItsWordBack(t *testing.T) {
	w := newSecuring(t)
	w.secure(2)
	w.vouch(10, 10, true, false)
	w.expect(3, 1, 1)
	w.cores[0].write(1)
	w.secure(4)
	w.meshes[1].Vouch(20, 20)
	w.cores[1].seen, w.cores[1].heads, w.cores[1].log = crdt.VersionVector{}, delta.Heads{}, nil
	w.meshes[1].Rebase()
	w.run()
	w.expect(0, 3, 1)
	w.vouch(30, 29, false, true)
	w.vouch(30, 30, true, false)
	w.expect(4, 3, 2)
}

// TestWhoLeavesAsksAnewWhatSurvives: what it was told before may be of less than is here by now.
func TestWhoLeavesAsksAnewWhatSurvives(t *testing.T) {
	w := newSecuring(t)
	w.secure(3)
	w.vouch(10, 10, true, false)
	w.expect(3, 1, 1)
	w.meshes[0].Leave(true)
	w.run()
	w.expect(0, 1, 1)
	w.secure(3)
	w.vouch(20, 10, false, true)
	w.expect(0, 2, 1)
	w.vouch(20, 20, true, false)
	w.expect(3, 2, 2)
}
