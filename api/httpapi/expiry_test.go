package httpapi

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/peerd/peerd/peer"
)

func TestAKeyExpires(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.tx(`{"changed":["k"],"results":[{"changed":true},{"changed":true},{"changed":false}]}`,
		`{"op":"string.set","path":["k"],"value":"v"}`,
		`{"op":"expire","path":["k"],"until":"2999-01-02T03:04:05.678Z"}`,
		`{"op":"expire","path":["none"],"until":"2999-01-02T03:04:05Z"}`)
	a.want(200, `{"key":"k","type":"string","value":"v","expires":"2999-01-02T03:04:05.678Z"}`, "GET", "/v1/keys/k", "")
	a.want(200, `{"keys":[{"key":"k","types":["string"],"expires":"2999-01-02T03:04:05.678Z"}]}`, "GET", "/v1/keys", "")
	a.tx(`{"changed":["k"],"results":[{"changed":true},{"changed":false}]}`,
		`{"op":"persist","path":["k"]}`, `{"op":"persist","path":["k"]}`)
	a.want(200, `{"key":"k","type":"string","value":"v"}`, "GET", "/v1/keys/k", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", `{"type":"set","elements":["e"],"expires":"2999-01-01T00:00:00Z"}`)
	a.want(200, `{"key":"k","type":"set","elements":["e"],"expires":"2999-01-01T00:00:00Z"}`, "GET", "/v1/keys/k", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", `{"type":"set","elements":["e","f"]}`)
	a.want(200, `{"key":"k","type":"set","elements":["e","f"]}`, "GET", "/v1/keys/k", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", `{"type":"string","value":"v","expires":"2001-01-01T00:00:00Z"}`)
	a.refused(404, "not-found", "GET", "/v1/keys/k", "")
	a.want(200, `{"keys":[]}`, "GET", "/v1/keys", "")
}

func TestAKeyThatExpiresAfterTheYear9999IsShown(t *testing.T) {
	a := newAPI(t, peer.Config{})
	err := a.p.Update(t.Context(), func(tx *peer.Tx) error {
		if err := tx.String("k").Set([]byte("v")); err != nil {
			return err
		}
		_, err := tx.Expiry("k").Set(time.UnixMilli(math.MaxInt64 - 1))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	a.want(200, `{"key":"k","type":"string","value":"v","expires":"9999-12-31T23:59:59.999Z"}`, "GET", "/v1/keys/k", "")
	a.want(200, `{"keys":[{"key":"k","types":["string"],"expires":"9999-12-31T23:59:59.999Z"}]}`, "GET", "/v1/keys", "")
}

func TestAnAnswerThatJSONCannotSayIsNoSuccess(t *testing.T) {
	w := httptest.NewRecorder()
	answerJSON(w, 200, math.NaN())
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 500 || p.Code != "internal" {
		t.Errorf("it is answered with %d %s (%v)", w.Code, w.Body, err)
	}
}

func TestAFieldExpires(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.refused(400, "bad-request", "PUT", "/v1/keys/k?path=f", `{"type":"string","value":"v","expires":"2999-01-01T00:00:00Z"}`)
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", `{"type":"map","fields":[{"name":"f","type":"string","value":"v"},{"name":"g","type":"string","value":"w"}]}`)
	a.want(200, `{"changed":["k"],"results":[{"changed":true}]}`, "POST", "/v1/tx",
		`{"ops":[{"op":"expire","path":["k","f"],"until":"2001-01-01T00:00:00Z"}]}`)
	a.want(200, `{"key":"k","type":"map","fields":[{"name":"g","type":"string","value":"w"}]}`, "GET", "/v1/keys/k", "")
	a.refused(400, "bad-request", "POST", "/v1/tx", `{"ops":[{"op":"expire","path":["k","f","deeper"],"until":"2999-01-01T00:00:00Z"}]}`)
	a.refused(400, "bad-request", "POST", "/v1/tx", `{"ops":[{"op":"expire","path":["k"]}]}`)
	a.refused(400, "bad-request", "POST", "/v1/tx", `{"ops":[{"op":"expire","path":["k"],"until":"tomorrow"}]}`)
}

func TestAPutOfAPartLeavesTheExpiryOfWhatItIsIn(t *testing.T) {
	a := newAPI(t, peer.Config{})
	const expires = `"expires":"2999-01-02T03:04:05Z"`
	whole := `{"type":"map","fields":[{"name":"f",%s}],` + expires + `}`
	inner := `"type":"map","fields":[{"name":"g",%s}]`
	one, two, text := `"type":"set","elements":["a"]`, `"type":"set","elements":["b"]`, `"type":"string","value":"v"`
	for _, test := range []struct{ path, before, after, part string }{
		{"?path=f", one, two, two},
		{"?path=f", one, text, text},
		{"?path=f", text, one, one},
		{"?path=f&path=g", fmt.Sprintf(inner, one), fmt.Sprintf(inner, two), two},
	} {
		a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", fmt.Sprintf(whole, test.before))
		a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k"+test.path, "{"+test.part+"}")
		a.want(200, fmt.Sprintf(`{"key":"k","type":"map","fields":[{"name":"f",%s}],%s}`, test.after, expires), "GET", "/v1/keys/k", "")
	}
	a.tx(`{"changed":["k"],"results":[{"changed":true}]}`, `{"op":"expire","path":["k","f"],"until":"2998-01-02T03:04:05Z"}`)
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k?path=f&path=g", "{"+one+"}")
	err := a.p.View(t.Context(), func(tx *peer.Tx) error {
		if at, ok := tx.Map("k").Expiry("f").Get(); !ok || at.Year() != 2998 {
			t.Errorf("the field expires at %v (%v)", at, ok)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k?path=f", `{"type":"set","elements":[]}`)
	a.refused(404, "not-found", "GET", "/v1/keys/k", "")
}
