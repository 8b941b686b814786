package httpapi

import (
	"fmt"

	"github.com/peerd/peerd/crdt"
)

// bitmapForm is the form of bitmaps.
var bitmapForm = form{
	typ: crdt.TypeBitmap, member: "bytes", converter: bitmapConverter{},
	operations: map[string]kind{
		"bitmap.set":   {member: "bits", run: func(o *operation, at spot) (result, error) { return setBits(o, at, true) }},
		"bitmap.unset": {member: "bits", run: func(o *operation, at spot) (result, error) { return setBits(o, at, false) }},
	},
}

type bitmapConverter struct{}

func (bitmapConverter) given(v *value) bool { return v.Bytes != nil }

func (bitmapConverter) check(*value, int) error { return nil }

func (bitmapConverter) read(r *reader, at spot, _ *string, _ int, v *value) (*string, error) {
	b := at.in.Bitmap(at.name)
	if err := r.spend(0, b.Len()); err != nil {
		return nil, err
	}
	all, _ := b.Get()
	shown := octets(all)
	v.Bytes = &shown
	return nil, nil
}

func (bitmapConverter) write(at spot, v *value) error {
	return at.in.Bitmap(at.name).Edit(0, len(*v.Bytes), func(part []byte) { copy(part, *v.Bytes) })
}

// setBits counts the bits that it changed.
func setBits(o *operation, at spot, on bool) (result, error) {
	b := at.in.Bitmap(at.name)
	size := b.Len()
	n := 0
	for _, bit := range o.Bits {
		if bit < 0 || bit >= 8*crdt.MaxValue {
			return result{}, badRequest(fmt.Sprintf("bits: %d is none of a bitmap, which has %d", bit, 8*crdt.MaxValue))
		}
		was, err := b.SetBit(int(bit), on)
		if err != nil {
			return result{}, err
		}
		if was != on {
			n++
		}
	}
	return result{Changed: n > 0 || b.Len() != size, Count: &n}, nil
}
