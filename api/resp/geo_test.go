package resp

import (
	"fmt"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestWhatIsStoredOfWhatIsNearIsBounded in what is looked at for it: other writers wait. What is
// only read is not.
func TestWhatIsStoredOfWhatIsNearIsBounded(t *testing.T) {
	db := newMemory(t)
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	add := []string{"GEOADD", "g"}
	for i := range 300 {
		add = append(add, "15", fmt.Sprint("37.", 100+i), fmt.Sprint("m", i))
	}
	p.send(add)
	if got := p.reply(); got != ":300" {
		t.Fatal(got)
	}
	err := db.Peer.View(t.Context(), func(tx *embedded.Tx) error {
		for _, c := range []struct {
			store       int
			count, most int
			wants       string
		}{
			{0, 0, 100, "300"}, {1, 0, 300, "300"}, {1, 0, 299, "near"}, {1, 5, 299, "near"},
			{1, 5, 300, "5"},
		} {
			middle, _ := tx.SortedSet("g").Score("m0")
			s := &geoSearch{source: tx.SortedSet("g"), store: c.store, count: int64(c.count)}
			s.shape = shape{middle: pointOf(middle), radius: 1e6, unit: 1}
			found, err := s.find(c.most)
			got := fmt.Sprint(len(found))
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, c.wants) {
				t.Errorf("%+v: %s", c, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
