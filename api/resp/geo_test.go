package resp

import (
	"fmt"
	"strings"
	"testing"

	embedded "github.com/peerd/peerd/peer"
)

// TestWhatIsStoredOfWhatIsNearIsBounded in what is looked at for it: other writers wait. What is only read is not.
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
			{0, 0, 100, "300"}, {1, 0, 300, "300"}, {1, 0, 299, "near"}, {1, 5, 299, "near"}, {1, 5, 300, "5"},
		} {
			middle, _ := tx.SortedSet("g").Score("m0")
			s := &geoSearch{source: tx.SortedSet("g"), shape: shape{middle: placeOf(middle), radius: 1e6, unit: 1}, store: c.store, count: int64(c.count)}
			found, err := s.find(c.most)
			if got := fmt.Sprint(len(found)); err == nil && got != c.wants || err != nil && !strings.Contains(err.Error(), c.wants) {
				t.Errorf("%+v: %s found, %v", c, got, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
