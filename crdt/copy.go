package crdt

import "errors"

var errNewerType = errors.New("the value is of a type that a newer version wrote: upgrade this one")

// Copy makes one name hold what another reads as, whatever it held, and reports whether there was
// anything: if not, or if both are the same name, nothing is written. It is written anew, as the
// changes of this transaction: of a string its latest text or its sum, and nothing of what others
// write to the first name meanwhile. It returns an error if there is something that only a newer
// version understands, and ErrTooLong if a path is too long under the other name; the transaction
// must fail then. O(cells under both).
func (f Fields) Copy(from, to string) (existed bool, err error) {
	held := f.Types(from)
	if held == 0 || from == to {
		return held != 0, nil
	}
	if held&unknownType != 0 {
		return true, errNewerType
	}
	if _, err := f.Remove(to); err != nil {
		return true, err
	}
	return true, f.copyEach(from, held, f, to)
}

// copyEach copies values of these types to a name that holds nothing, and when they expire.
func (f Fields) copyEach(from string, held Types, to Fields, name string) error {
	if held&unknownType != 0 {
		return errNewerType
	}
	for _, t := range types {
		if !held.Has(t.Type) {
			continue
		}
		if err := t.handle(f.named(from).typed(t.Type)).copyTo(to, name); err != nil {
			return err
		}
	}
	if at, ok := f.Expiry(from).Get(); ok {
		_, err := to.Expiry(name).Set(at)
		return err
	}
	return nil
}
