package resp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// TestAHyperLogLogIsItsStringWrittenInEitherForm: what GET returns can be SET elsewhere, and counts
// the same.
func TestAHyperLogLogIsItsStringWrittenInEitherForm(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	for n, size := range map[int]bool{10: true, 900: true, 20_000: false} {
		p.ask("DEL pf copy")
		args := []string{"PFADD", "pf"}
		for i := range n {
			args = append(args, fmt.Sprint(n, " of ", i))
		}
		p.expectOf(":1", args...)
		p.send([]string{"GET", "pf"})
		value, err := readValue(p.in)
		if err != nil {
			t.Fatal(err)
		}
		text, err := strconv.Unquote(value.head)
		if err != nil {
			t.Fatal(err)
		}
		if sparse := len(text) <= sparseSize; sparse != size || !sparse && len(text) != denseSize {
			t.Errorf("%d elements are a string of %d bytes", n, len(text))
		}
		p.expectOf("+OK", "SET", "copy", text)
		count := p.ask("PFCOUNT pf")
		p.expect("PFCOUNT copy", count)
		p.expect("PFCOUNT copy pf", count)
		p.expectOf(":0", append([]string{"PFADD", "copy"}, args[2:]...)...)
		p.expectOf(fmt.Sprintf("%q", text), "GET", "copy")
	}
}

func TestStringsThatAreNoHyperLogLogAreRefusedAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := append([]byte(hyllMagic), rapid.SliceOf(rapid.Byte()).Draw(t, "rest")...)
		if rapid.Bool().Draw(t, "sparse") && len(s) > hyllHeader {
			s[len(hyllMagic)] = hyllSparse
		}
		r, err := parseHyll(s)
		if (r == nil) == (err == nil) {
			t.Fatalf("%x is %v, %v", s, r, err)
		}
	})
}

func TestRegistersAreReadFromTheStringsTheyAreWrittenTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := new(crdt.Registers)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range rapid.SampledFrom([]int{0, 1, 40, 5000, 1 << 16}).Draw(t, "registers") {
			want[rng.IntN(len(want))] = byte(rng.IntN(rapid.SampledFrom([]int{3, sparseMost + 1, 52}).Draw(t, "most")))
		}
		s := crdt.NewState()
		if _, err := s.Update(1, time.Unix(1, 0), func(f crdt.Fields) error {
			_, err := f.HyperLogLog("k").Merge(want)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		text, ok := hyllOf(s.View(), "k")
		got, err := parseHyll(text)
		if !ok || err != nil || *got != *want {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
	})
}

func TestStringsOfAnyLengthsAreCombinedBitByBit(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	rng := rand.New(rand.NewPCG(3, 4))
	var texts [3][]byte
	at := func(text, i int) byte {
		if i < len(texts[text]) {
			return texts[text][i]
		}
		return 0
	}
	for range 20 {
		for i := range texts {
			texts[i] = make([]byte, 1+rng.IntN(40))
			for j := range texts[i] {
				texts[i][j] = byte(rng.Uint32())
			}
			p.expectOf("+OK", "SET", fmt.Sprint("k", i), string(texts[i]))
		}
		for name, op := range map[string]func(a, b byte) byte{
			"AND": func(a, b byte) byte { return a & b },
			"OR":  func(a, b byte) byte { return a | b },
			"XOR": func(a, b byte) byte { return a ^ b },
		} {
			want := make([]byte, max(len(texts[0]), len(texts[1]), len(texts[2])))
			for i := range want {
				want[i] = op(op(at(0, i), at(1, i)), at(2, i))
			}
			p.expectOf(fmt.Sprint(":", len(want)), "BITOP", name, "d", "k0", "k1", "k2")
			p.expectOf(fmt.Sprintf("%q", want), "GET", "d")
		}
	}
}

// TestAStringThatGrowsIsChangedInParts: SETRANGE and APPEND read as on a string of one piece, from
// the shortest to those that are kept in chunks.
func TestAStringThatGrowsIsChangedInParts(t *testing.T) {
	_, address := startServer(t, Config{db: newMemory(t)})
	p := dial(t, address)
	var want []byte
	rng := rand.New(rand.NewPCG(1, 2))
	for step := range 60 {
		part := bytes.Repeat([]byte{byte('a' + step%26)}, 1+rng.IntN(3000))
		if step%3 == 0 && len(want) > 0 {
			at := rng.IntN(len(want))
			want = append(want, make([]byte, max(0, at+len(part)-len(want)))...)
			copy(want[at:], part)
			p.expectOf(fmt.Sprint(":", len(want)), "SETRANGE", "k", fmt.Sprint(at), string(part))
		} else {
			want = append(want, part...)
			p.expectOf(fmt.Sprint(":", len(want)), "APPEND", "k", string(part))
		}
		p.expectOf(fmt.Sprintf("%q", want), "GET", "k")
		from := rng.IntN(len(want))
		p.expectOf(fmt.Sprintf("%q", want[from:]), "GETRANGE", "k", fmt.Sprint(from), "-1")
	}
	if len(want) < 2*longText {
		t.Errorf("only %d bytes", len(want))
	}
	p.expect("TYPE k", "+string")
	p.expect("SET k "+strings.Repeat("v", longText+1), "+OK")
	p.expect("STRLEN k", fmt.Sprint(":", longText+1))
}

// TestAStringThatIsChangedLeavesWhatIsBesideIt has a key that holds a set beside a string, as two
// hosts make it that are cut off from each other.
func TestAStringThatIsChangedLeavesWhatIsBesideIt(t *testing.T) {
	db := newMemory(t)
	_, address := startServer(t, Config{db: db})
	p := dial(t, address)
	kinds := map[string]func(tx *embedded.Tx) error{
		"text": func(tx *embedded.Tx) error { return tx.String("k").Set([]byte("5")) },
		"bitmap": func(tx *embedded.Tx) error {
			return tx.Bitmap("k").Edit(0, 1, func(to []byte) { to[0] = '5' })
		},
	}
	for kind, set := range kinds {
		for line, want := range map[string]string{
			"APPEND k 1": "51", "SETRANGE k 1 1": "51", "INCRBYFLOAT k 1.5": "6.5", "INCR k": "6",
			"SETBIT k 8 1": `5\x80`,
		} {
			p.ask("DEL k")
			err := db.Update(t.Context(), func(tx *embedded.Tx) error {
				_, err := tx.Set("k").Add("x")
				return errors.Join(set(tx), err)
			})
			if err != nil {
				t.Fatal(err)
			}
			p.ask(line)
			if got := p.ask("GET k"); got != `"`+want+`"` {
				t.Errorf("%s of a %s makes it %s, want %q", line, kind, got, want)
			}
			if got := p.ask("SMEMBERS k"); !strings.Contains(got, `"x"`) {
				t.Errorf("%s of a %s leaves %s of the set beside it", line, kind, got)
			}
		}
	}
}
