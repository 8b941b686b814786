// Package golden compares what a test made with a file that pins it, and writes the file anew if the test runs with
// -update.
package golden

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the files that pin formats anew")

// Text compares text with the file of a name in testdata. A difference is an error that says what it means.
func Text(t testing.TB, name, text, meaning string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s: %s (-was +is; -update accepts it)\n%s", name, meaning, diff)
	}
}

// Bytes does so with bytes, 32 of them a line in hexadecimal.
func Bytes(t testing.TB, name string, data []byte) {
	t.Helper()
	var lines strings.Builder
	for line := range slices.Chunk(data, 32) {
		lines.WriteString(hex.EncodeToString(line) + "\n")
	}
	Text(t, name+".golden", lines.String(), "the format changed: old peers cannot read it")
}
