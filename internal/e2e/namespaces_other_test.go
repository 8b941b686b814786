//go:build !linux

package e2e

import (
	"errors"
	"testing"
)

func openNamespaces(*testing.T) (network, error) {
	return nil, errors.New("not on this system")
}
