//go:build !linux

package peer

import "testing"

func mountSmall(t *testing.T, _ string, _ int64) { t.Skip("mounting a small disk takes Linux") }
