package resp

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/peerd/peerd/internal/delta"
)

// TestTheLargestCommandsAreDoneWholeAndLargerOnesNotAtAll tests the limits of a transaction over
// a connection.
func TestTheLargestCommandsAreDoneWholeAndLargerOnesNotAtAll(t *testing.T) {
	eachWay(t, testTheLargestCommandsAreDoneWholeAndLargerOnesNotAtAll)
}

func testTheLargestCommandsAreDoneWholeAndLargerOnesNotAtAll(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	add := []string{"SADD", "s"}
	for i := range delta.MaxOps + 1 {
		add = append(add, fmt.Sprintf("member:%06d", i))
	}
	p.send(add)
	want := fmt.Sprintf("-ERR %d members exceed the limit of %d a transaction (MaxOps)", delta.MaxOps+1, delta.MaxOps)
	if got := p.reply(); !strings.HasPrefix(got, want) {
		t.Errorf("got %.100s, want %s", got, want)
	}
	p.expect("SCARD s", ":0")
	p.send(add[:100_002])
	if got := p.reply(); got != ":100000" {
		t.Errorf("SADD of 100,000 members: %.100s", got)
	}
	p.expect("SCARD s", ":100000")
	p.expect("SISMEMBER s member:099999", ":1")
	value := strings.Repeat("0123456789abcdef", MaxValue/16)
	p.send([]string{"SET", "k", value}, []string{"GET", "k"})
	if got := p.reply(); got != "+OK" {
		t.Errorf("SET of the largest value: %.100s", got)
	}
	if got := p.reply(); got != strconv.Quote(value) {
		t.Errorf("it came back as %.40s…", got)
	}
	p.send([]string{"SET", "l", value + "v"})
	if got := p.reply(); !strings.HasPrefix(got, fmt.Sprintf("-ERR an argument of %d bytes exceeds", MaxValue+1)) {
		t.Errorf("a larger one: %.100s", got)
	}
	p.expect("EXISTS l", ":0")
}
