package badger

import "testing"

func TestTheSharedPrefixOfARangeIsThatOfAllItsKeys(t *testing.T) {
	for _, test := range []struct{ start, end, want string }{
		{"duser:1", "duser;", "duser:"},
		{"duser:", "duser;", "duser:"},
		{"da", "db", "da"},
		{"da", "dc", "d"},
		{"da", "da\x00", "da"},
		{"d", "e", "d"},
		{"d\xff", "e", "d"},
		{"dab", "dabc", "dab"},
		{"da", "dab", "da"},
		{"db", "da", "d"},
		{"da\xff", "db\x00", "d"},
	} {
		if got := sharedPrefix([]byte(test.start), []byte(test.end)); string(got) != test.want {
			t.Errorf("[%q, %q): %q, want %q", test.start, test.end, got, test.want)
		}
	}
}
