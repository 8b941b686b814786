package scenario

import "testing"

// Each way finds all differences, or says so itself, and none takes less than the floor.
func TestNoRepairIsBelowTheFloor(t *testing.T) {
	for _, changed := range [][]int{{17}, {3, 4, 5, 6}, {1, 500, 1_000, 1_999}} {
		d := difference{2_000, changed}
		floor, _ := prepareFloor(d)()
		for _, r := range repairers {
			o, err := r.prepare(d)()
			if err != nil || o.bytes < floor.bytes || o.trips < floor.trips {
				t.Errorf("%s of %v: %+v, %v; the floor is %+v", r.name, changed, o, err, floor)
			}
		}
	}
}

// 8 bits name one of 256 cells, and 12.99 two of 128.
func TestTheFloorIsTheLogarithmOfTheChoices(t *testing.T) {
	one, _ := prepareFloor(difference{256, []int{9}})()
	two, _ := prepareFloor(difference{128, []int{1, 2}})()
	if one.bytes != 1+repairValue || two.bytes != 2+2*repairValue {
		t.Errorf("%d and %d bytes", one.bytes, two.bytes)
	}
}
