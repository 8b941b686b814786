//go:build !linux

package peer

func isBridge(string) bool { return false }
