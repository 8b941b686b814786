package resp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestALongListIsReadInItsOrder where elements stand between others that were put between others,
// and so on: such have long names, which the store orders in its own way.
func TestALongListIsReadInItsOrder(t *testing.T) {
	const many, nested = 5000, 100
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	line, want := []string{"RPUSH", "l"}, make([]string, 0, many+5*nested)
	for i := range many {
		want = append(want, fmt.Sprint("element", i))
	}
	p.send(append(line, want...))
	p.reply()
	for _, at := range []int{10, 1500, 1700, 3100, 4500} {
		pivot := fmt.Sprint("element", at)
		for i := range nested {
			where, elem := "BEFORE", fmt.Sprint("between", at, ".", i)
			index := slices.Index(want, pivot)
			if i%2 == 0 {
				where, index = "AFTER", index+1
			}
			if got := p.ask(fmt.Sprint("LINSERT l ", where, " ", pivot, " ", elem)); strings.HasPrefix(got, "-") {
				t.Fatal(got)
			}
			want, pivot = slices.Insert(want, index, elem), elem
		}
	}
	for _, from := range []int{0, 5, 600, 1650, len(want) - 1} {
		var got []string
		for _, text := range strings.Split(p.ask(fmt.Sprint("LRANGE l ", from, " -1")), "\n")[1:] {
			got = append(got, strings.Trim(text, ` "`))
		}
		if !slices.Equal(got, want[from:]) {
			for i := range min(len(got), len(want)-from) {
				if got[i] != want[from+i] {
					t.Errorf("LRANGE from %d on: element %d of %d is %s, want %s", from, from+i, len(got), got[i], want[from+i])
					break
				}
			}
			t.Errorf("LRANGE from %d on has %d elements, want %d", from, len(got), len(want)-from)
		}
	}
}
