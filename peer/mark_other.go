//go:build !linux

package peer

// fileIdentity cannot tell here: every start draws a new replica id.
func fileIdentity(string) (string, error) { return "", nil }

// fileChange cannot tell here.
func fileChange(string) (string, error) { return "", nil }
