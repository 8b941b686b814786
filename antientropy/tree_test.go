package antientropy

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"pgregory.net/rapid"
)

func TestNodesAreTheSumsOfTheirChildren(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaf := rapid.OneOf(rapid.IntRange(0, Leaves-1), rapid.SampledFrom([]int{0, Leaves - 1}))
		tree := new(Tree)
		for range rapid.IntRange(1, 50).Draw(t, "updates") {
			at, f := leaf.Draw(t, "leaf"), drawFingerprint(t, "f")
			if rapid.Bool().Draw(t, "add") {
				tree.Add(at, f)
			} else {
				tree.Sub(at, f)
			}
		}
		for level := range Levels {
			for i := range nodesAt(level) {
				var sum Fingerprint
				for j := range Fanout {
					sum = sum.Add(tree.Node(level+1, i*Fanout+j))
				}
				if sum != tree.Node(level, i) {
					t.Fatalf("node %d of level %d is not the sum of its children", i, level)
				}
			}
		}
		if tree.Root() != tree.Node(0, 0) {
			t.Fatal("the root is not node 0 of level 0")
		}
	})
}

func TestAPageIsWrittenAsItsLeavesAre(t *testing.T) {
	tree := new(Tree)
	for _, leaf := range []int{0, 1, 17, PageLeaves - 1, PageLeaves, 3*PageLeaves + 40} {
		tree.Add(leaf, Fingerprint{1, uint64(leaf)})
	}
	tree.Sub(17, Fingerprint{1, 17}) // its group is zero again
	for page := range 5 {
		got := wire.Encode(func(w *wire.Writer) { tree.WritePage(w, page) })
		want := wire.Encode(func(w *wire.Writer) {
			for i := range PageLeaves {
				WriteFingerprint(w, tree.Node(Levels, page*PageLeaves+i))
			}
		})
		if !bytes.Equal(got, want) {
			t.Errorf("page %d is %x, want %x", page, got, want)
		}
	}
}

func TestTreeForgetsWhatIsTakenOutInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type item struct {
			leaf int
			f    Fingerprint
		}
		drawItem := rapid.Custom(func(t *rapid.T) item {
			return item{rapid.IntRange(0, Leaves-1).Draw(t, "leaf"), drawFingerprint(t, "f")}
		})
		items := rapid.SliceOf(drawItem).Draw(t, "items")
		tree := new(Tree)
		for _, it := range items {
			tree.Add(it.leaf, it.f)
		}
		full := tree.Clone()
		for _, it := range rapid.Permutation(items).Draw(t, "order") {
			tree.Sub(it.leaf, it.f)
		}
		if !tree.Equal(new(Tree)) {
			t.Fatal("an emptied tree differs from a new one")
		}
		for _, it := range items {
			tree.Add(it.leaf, it.f)
		}
		if !tree.Equal(full) {
			t.Fatal("a clone changed with its original, or order matters")
		}
	})
}

func TestLeavesBelowTheRootAreAllAndBelowALeafItself(t *testing.T) {
	if first, end := leavesBelow(0, 0); first != 0 || end != Leaves {
		t.Errorf("below the root: [%d, %d)", first, end)
	}
	if first, end := leavesBelow(Levels, 77); first != 77 || end != 78 {
		t.Errorf("below leaf 77: [%d, %d)", first, end)
	}
	if first, end := leavesBelow(1, 15); first != Leaves-4096 || end != Leaves {
		t.Errorf("below the last child of the root: [%d, %d)", first, end)
	}
}

func TestAddressesSpreadOverAllLeaves(t *testing.T) {
	perChild := make([]int, Fanout)
	const n = 16_000
	for i := range n {
		a := dotted.KeyAddress("key").Type(crdt.TypeSet).Name(string(rune(i))).Type(crdt.TypeFlag)
		perChild[LeafIndex(LeafOf(a))*Fanout/Leaves]++
	}
	for i, got := range perChild {
		if want := n / Fanout; got < want*8/10 || got > want*12/10 {
			t.Errorf("child %d of the root has %d of %d addresses", i, got, n)
		}
	}
}

func TestNodeOutsideTheTreePanics(t *testing.T) {
	for _, at := range [][2]int{{-1, 0}, {0, 1}, {1, 16}, {4, Leaves}, {5, 0}, {2, -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("node %d of level %d was returned", at[1], at[0])
				}
			}()
			new(Tree).Node(at[0], at[1])
		}()
	}
}

func BenchmarkTreeUpdate(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	leaves := make([]int, 1<<16)
	for i := range leaves {
		leaves[i] = rng.IntN(Leaves)
	}
	tree := new(Tree)
	f := Fingerprint{rng.Uint64(), rng.Uint64()}
	i := 0
	for b.Loop() {
		tree.Add(leaves[i&(len(leaves)-1)], f)
		i++
	}
}

// symbol is a coded symbol of a rateless invertible Bloom lookup table, of an entry's leaf and fingerprint.
type symbol struct {
	leaf, check uint64
	sum         Fingerprint
	count       int64
}

// addToSymbols adds an entry to all of the table's symbols that it is in, n times: the i-th with probability
// 1/(1 + i/2), as the paper draws them. It returns how many they are.
func addToSymbols(table []symbol, leaf uint64, f Fingerprint, n int64) (in int) {
	rng := rand.NewPCG(f.Hi, f.Lo)
	for i := 0.0; i < float64(len(table)); in++ {
		s := &table[int(i)]
		s.leaf, s.check = s.leaf^leaf, s.check^f.Hi*f.Lo
		s.sum.Hi, s.sum.Lo, s.count = s.sum.Hi^f.Hi, s.sum.Lo^f.Lo, s.count+n
		i += math.Ceil((i + 1.5) * (1/math.Sqrt(1-float64(rng.Uint64()>>11)/(1<<53)) - 1))
	}
	return in
}

// BenchmarkReplace compares what keeping the tree costs where an entry takes the place of another, with
// what keeping a lookup table beside it would.
func BenchmarkReplace(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	leaves, entries := make([]int, 1<<16), make([]Fingerprint, 1<<16+1)
	for i := range leaves {
		leaves[i], entries[i] = rng.IntN(Leaves), Fingerprint{rng.Uint64(), rng.Uint64()}
	}
	b.Run("tree", func(b *testing.B) {
		tree := new(Tree)
		for i := 0; b.Loop(); i = (i + 1) % len(leaves) {
			tree.Sub(leaves[i], entries[i])
			tree.Add(leaves[i], entries[i+1])
		}
	})
	for _, size := range []int{1000, 1 << 16} {
		b.Run(fmt.Sprint("table of ", size), func(b *testing.B) {
			table, in, n := make([]symbol, size), 0, 0
			for i := 0; b.Loop(); i = (i + 1) % len(leaves) {
				in += addToSymbols(table, uint64(leaves[i]), entries[i], -1)
				in += addToSymbols(table, uint64(leaves[i]), entries[i+1], 1)
				n++
			}
			b.ReportMetric(float64(in)/float64(n), "symbols/op")
		})
	}
}

func BenchmarkTreeClone(b *testing.B) {
	tree := new(Tree)
	b.ReportAllocs()
	for b.Loop() {
		tree.Clone()
	}
}
