package peer

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if a peer that was closed left a goroutine behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
