package scenario

import "testing"

// What was written while a copy was away is asked for and sent, however much it is; and equal copies
// have nothing to send.
func TestACopyThatReturnsNeedsARoundTrip(t *testing.T) {
	for _, n := range []int{1, 300, 5_000} {
		if trips, err := ownTrips(n); err != nil || trips < 1 || trips > 2 {
			t.Errorf("%d writes: %v round trips, %v", n, trips, err)
		}
	}
	c, err := openCopies()
	if err != nil {
		t.Fatal(err)
	}
	if crossings, err := c.meet(); err != nil || crossings != 0 {
		t.Errorf("%d crossings of equal copies, %v", crossings, err)
	}
}
