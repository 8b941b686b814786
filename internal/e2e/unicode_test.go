package e2e

import (
	"bufio"
	"compress/gzip"
	"os"
	"strings"
	"testing"
)

// record is a line of UnicodeData.txt, and what the test makes of it: a hash under key, an element
// in the set of its category, and one more in the category's counter.
type record struct {
	codePoint string // in hexadecimal
	category  string
	fields    []string // of the hash: name, value, name, value, …
}

// fieldNames are the fields of UnicodeData.txt after the code point, in order (UAX #44).
var fieldNames = []string{
	"name", "category", "combining", "bidi", "decomposition", "decimal", "digit", "numeric",
	"mirrored", "old_name", "comment", "upper", "lower", "title",
}

const unicodeRecords = 34_924

// unicodeData returns every step-th record of the file.
func unicodeData(t *testing.T, step int) []record {
	t.Helper()
	file, err := os.Open("testdata/UnicodeData.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var records []record
	lines := 0
	for scan := bufio.NewScanner(unzipped); scan.Scan(); lines++ {
		if lines%step != 0 {
			continue
		}
		values := strings.Split(scan.Text(), ";")
		if len(values) != len(fieldNames)+1 {
			t.Fatalf("line %d has %d fields", lines+1, len(values))
		}
		r := record{codePoint: values[0], category: values[2]}
		for i, value := range values[1:] {
			if value != "" {
				r.fields = append(r.fields, fieldNames[i], value)
			}
		}
		records = append(records, r)
	}
	if lines != unicodeRecords {
		t.Fatalf("the file has %d records, not %d", lines, unicodeRecords)
	}
	return records
}

func (r record) key() string         { return "char:" + r.codePoint }
func (r record) categoryKey() string { return "category:" + r.category }
func (r record) countKey() string    { return "count:" + r.category }

// commands returns what loads the record.
func (r record) commands() []command {
	return []command{
		append(command{"HSET", r.key()}, r.fields...),
		{"SADD", r.categoryKey(), r.codePoint},
		{"INCR", r.countKey()},
	}
}

// loading returns the commands that load the records of odd lines, or of even ones.
func loading(records []record, odd bool) []command {
	var commands []command
	for i, r := range records {
		if (i%2 == 0) == odd { // the first line is number one
			commands = append(commands, r.commands()...)
		}
	}
	return commands
}
