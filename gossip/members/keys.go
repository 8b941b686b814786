package members

import (
	"bytes"
	"slices"
)

// SetKeys makes inUse the key that this host encrypts with, and accepts what others encrypt with it or
// with any of the accepted. To replace a key without a moment in which two hosts do not understand each
// other: have all accept the new one, then all use it, then none accept the old one. Callers take
// turns.
func (m *Members) SetKeys(inUse [32]byte, accepted ...[32]byte) error {
	keys := append([][32]byte{inUse}, accepted...)
	for _, key := range keys {
		if err := m.keyring.AddKey(bytes.Clone(key[:])); err != nil {
			return err
		}
	}
	if err := m.keyring.UseKey(inUse[:]); err != nil {
		return err
	}
	// From the end on: memberlist reads the slice that it returned before without a lock, and removing
	// the last of a slice moves none of the others.
	for _, key := range slices.Backward(m.keyring.GetKeys()) {
		if slices.Contains(keys, [32]byte(key)) {
			continue
		}
		if err := m.keyring.RemoveKey(key); err != nil {
			return err
		}
	}
	return nil
}
