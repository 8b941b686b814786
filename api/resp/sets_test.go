package resp

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// memberOf returns a member for a number: a short one, or a long one, which the store orders in its
// own way.
func memberOf(n int) string {
	long := strings.Repeat("x", mergedName/2)
	switch n % 4 {
	case 0:
		return fmt.Sprint(long, n, long, long)
	case 1:
		return fmt.Sprint(long, n)
	}
	return fmt.Sprint("member", n)
}

// TestTheAlgebraOfLargeSetsIsThatOfSmallOnes with sets that are gone through at once, and others.
func TestTheAlgebraOfLargeSetsIsThatOfSmallOnes(t *testing.T) {
	const seed, span = 11, 3000
	rng := rand.New(rand.NewPCG(seed, seed))
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	names := []string{"large", "larger", "largest", "few", "other", "tail"}
	sets := make([]map[int]bool, len(names))
	for i, size := range []int{mergedFrom + 100, 2 * mergedFrom, 9 * mergedFrom, 20, mergedFrom, mergedFrom} {
		sets[i] = map[int]bool{}
		args := []string{"SADD", names[i]}
		for range size {
			n := rng.IntN(span)
			if names[i] == "tail" {
				n = span - rng.IntN(span/8)
			}
			sets[i][n] = true
			args = append(args, memberOf(n))
		}
		p.send(args)
		if got := p.reply(); got != ":"+strconv.Itoa(len(sets[i])) {
			t.Fatalf("SADD %s: %s, want %d", names[i], got, len(sets[i]))
		}
	}
	for range 200 {
		var of []int
		line := ""
		for range 1 + rng.IntN(len(sets)) {
			of = append(of, rng.IntN(len(sets)))
			line += " " + names[of[len(of)-1]]
		}
		inter, union, diff := 0, 0, 0
		for n := range span + 1 {
			in := 0
			for _, i := range of {
				if sets[i][n] {
					in++
				}
			}
			switch {
			case in == len(of):
				inter++
				fallthrough
			case in > 0:
				union++
			}
			if in == 1 && sets[of[0]][n] {
				diff++
			}
		}
		for command, want := range map[string]int{"SINTERSTORE": inter, "SUNIONSTORE": union, "SDIFFSTORE": diff} {
			if got := p.ask(command + " made" + line); got != ":"+strconv.Itoa(want) {
				t.Fatalf("seed %d: %s made%s: %s, want %d", seed, command, line, got, want)
			}
		}
	}
}
