package crdt

// Flag is a boolean that begins as false. Setting it to true wins over concurrently setting it to
// false.
type Flag struct {
	ref
}

// Flag returns the flag under name.
func (f Fields) Flag(name string) Flag { return Flag{f.named(name, TypeFlag)} }

// Get returns whether the flag is set.
func (f Flag) Get() bool {
	c, _ := f.cell()
	return c.Visible()
}

// Set makes the flag true or false. It writes true even if that is what the flag is, so that it
// wins over a concurrent Set to false.
func (f Flag) Set(on bool) error {
	c, err := f.cell()
	if err != nil {
		return err
	}
	if on {
		return f.replace(c, []byte{byte(kindEnabled)})
	}
	return f.replace(c, nil)
}

func (f Flag) copyTo(to Fields, name string) error { return to.Flag(name).Set(f.Get()) }

// A flag that is not set is not there.
func (f Flag) appendJSON(b []byte) []byte { return append(b, "true"...) }
