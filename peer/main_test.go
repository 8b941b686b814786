package peer

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if a peer that was closed left a goroutine behind, but for a probe of memberlist's that waits
// for its timer: see members.Close.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}
