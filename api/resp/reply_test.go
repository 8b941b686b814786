package resp

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRepliesAreWrittenAsEachProtocolWantsThem(t *testing.T) {
	tests := []struct {
		name         string
		write        func(w *replies)
		resp2, resp3 string
	}{
		{"status", func(w *replies) { w.status("OK") }, "+OK\r\n", "+OK\r\n"},
		{"error", func(w *replies) { w.fail("ERR a\r\nb") }, "-ERR a  b\r\n", "-ERR a  b\r\n"},
		{"integer", func(w *replies) { w.integer(-12) }, ":-12\r\n", ":-12\r\n"},
		{"digit", func(w *replies) { w.integer(9) }, ":9\r\n", ":9\r\n"},
		{"bulk", func(w *replies) { w.bulk([]byte("a\r\n")) },
			"$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"},
		{"text", func(w *replies) { w.text("") }, "$0\r\n\r\n", "$0\r\n\r\n"},
		{"null", func(w *replies) { w.null() }, "$-1\r\n", "_\r\n"},
		{"true", func(w *replies) { w.boolean(true) }, ":1\r\n", "#t\r\n"},
		{"false", func(w *replies) { w.boolean(false) }, ":0\r\n", "#f\r\n"},
		{"double", func(w *replies) { w.double(1.5) }, "$3\r\n1.5\r\n", ",1.5\r\n"},
		{"array", func(w *replies) { w.array(10) }, "*10\r\n", "*10\r\n"},
		{"set", func(w *replies) { w.set(2) }, "*2\r\n", "~2\r\n"},
		{"map", func(w *replies) { w.dict(3) }, "*6\r\n", "%3\r\n"},
		{"array afterwards", func(w *replies) {
			w.status("a")
			at := len(w.buf)
			w.text("b")
			w.text("c")
			w.arrayAt(at, 2)
		}, "+a\r\n*2\r\n$1\r\nb\r\n$1\r\nc\r\n", "+a\r\n*2\r\n$1\r\nb\r\n$1\r\nc\r\n"},
		{"set afterwards", func(w *replies) { w.text("b"); w.setAt(0, 1) },
			"*1\r\n$1\r\nb\r\n", "~1\r\n$1\r\nb\r\n"},
		{"map afterwards", func(w *replies) { w.text("b"); w.text("c"); w.dictAt(0, 1) },
			"*2\r\n$1\r\nb\r\n$1\r\nc\r\n", "%1\r\n$1\r\nb\r\n$1\r\nc\r\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp2, resp3 := replies{}, replies{resp3: true}
			test.write(&resp2)
			test.write(&resp3)
			want := [2]string{test.resp2, test.resp3}
			if diff := cmp.Diff(want, [2]string{string(resp2.buf), string(resp3.buf)}); diff != "" {
				t.Errorf("RESP2 and RESP3 (-want +got):\n%s", diff)
			}
		})
	}
}
