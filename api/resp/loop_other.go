//go:build !linux

package resp

import (
	"context"
	"syscall"
)

// loop is for Linux alone: elsewhere each connection has a goroutine.
type loop struct{}

func (l *loop) endWhenEmpty() {}

func (s *Server) join(context.Context, *client, syscall.Conn) bool { return false }
