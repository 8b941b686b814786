package crdt

// Flag is a boolean that begins disabled. An enabling wins over a concurrent disabling.
type Flag struct {
	node
}

// Enable sets the flag, again if it is set, so that it wins over a concurrent Disable.
func (f Flag) Enable() error {
	c, err := f.cell()
	if err != nil {
		return err
	}
	return f.replace(c, []byte{byte(kindEnabled)})
}

// Disable unsets the flag.
func (f Flag) Disable() error {
	c, err := f.cell()
	if err != nil {
		return err
	}
	return f.replace(c, nil)
}

// Enabled reports whether the flag is set.
func (f Flag) Enabled() (bool, error) {
	c, err := f.cell()
	return c.Visible(), err
}
