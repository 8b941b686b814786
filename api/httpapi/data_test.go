package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/peer"
)

// api is a server over a peer in memory.
type api struct {
	t testing.TB
	s *Server
	p *peer.Peer
}

func newAPI(t testing.TB, cfg peer.Config) *api {
	t.Helper()
	cfg.Memory, cfg.Offline = true, true
	p, err := peer.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &api{t, New(Config{Peer: p}), p}
}

// do sends a request, with headers as "Name: value", and checks it and its answer against the
// document.
func (a *api) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	a.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "localhost"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	a.s.ServeHTTP(w, r)
	conforms(a.t, r, body, w)
	return w
}

// want sends a request and compares the answer, without its token, which it returns.
func (a *api) want(code int, answer, method, path, body string, headers ...string) string {
	a.t.Helper()
	w := a.do(method, path, body, headers...)
	var got, want map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		a.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
	}
	if err := json.Unmarshal([]byte(answer), &want); err != nil {
		a.t.Fatal(err)
	}
	if w.Code == http.StatusOK && got["token"] != w.Header().Get(tokenHeader) {
		a.t.Errorf("the token is %q in the answer and %q in the header", got["token"],
			w.Header().Get(tokenHeader))
	}
	for _, dropped := range []string{"token", "title", "detail", "status"} {
		delete(got, dropped)
	}
	if diff := cmp.Diff(want, got); w.Code != code || diff != "" {
		a.t.Errorf("%s %s %s: %d, want %d; answer (-want +got):\n%s%s", method, path, body, w.Code, code,
			diff, w.Body)
	}
	return w.Header().Get(tokenHeader)
}

func (a *api) tx(answer string, ops ...string) string {
	a.t.Helper()
	return a.want(200, answer, "POST", "/v1/tx", `{"ops":[`+strings.Join(ops, ",")+`]}`)
}

func (a *api) refused(code int, why, method, path, body string) string {
	a.t.Helper()
	w := a.do(method, path, body)
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		a.t.Fatal(err)
	}
	if w.Code != code || p.Status != code || p.Code != why {
		a.t.Errorf("%s %s %s: %d %s, want %d %s", method, path, body, w.Code, w.Body, code, why)
	}
	if media := w.Header().Get("Content-Type"); media != "application/problem+json" {
		a.t.Errorf("a problem has the media type %q", media)
	}
	return p.Detail
}

func TestATransactionHasOperationsForEveryTypeAndNestedPaths(t *testing.T) {
	a := newAPI(t, peer.Config{})
	before, err := a.p.Status()
	if err != nil {
		t.Fatal(err)
	}
	a.tx(`{"changed":["ann","door","fruit","greeting","hits","note"],"results":[
			{"changed":true},{"changed":true,"value":3},{"changed":true},{"changed":true,"value":-2},
			{"changed":true},{"changed":true,"count":2},{"changed":true},{"changed":true,"count":1},
			{"changed":true,"value":1},{"changed":true}]}`,
		`{"op":"string.set","path":["greeting"],"value":"hello"}`,
		`{"op":"string.add","path":["hits"],"by":3}`,
		`{"op":"register.set","path":["note"],"value":"n"}`,
		`{"op":"counter.add","path":["ann","karma"],"by":-2}`,
		`{"op":"flag.enable","path":["door"]}`,
		`{"op":"set.add","path":["fruit"],"elements":["pear","apple","pear"]}`,
		`{"op":"string.set","path":["ann","address","city"],"value":"Oslo"}`,
		`{"op":"set.add","path":["ann","groups"],"elements":["staff"]}`,
		`{"op":"counter.add","path":["ann","address","moves"],"by":1}`,
		`{"op":"flag.enable","path":["ann","admin"]}`)
	after, err := a.p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Deltas - before.Deltas; n != 1 {
		t.Errorf("the transaction was %d deltas, want 1", n)
	}
	a.want(200, `{"key":"greeting","type":"string","value":"hello"}`, "GET", "/v1/keys/greeting", "")
	a.want(200, `{"key":"hits","type":"string","value":"3"}`, "GET", "/v1/keys/hits", "")
	a.want(200, `{"key":"door","type":"flag","enabled":true}`, "GET", "/v1/keys/door", "")
	a.want(200, `{"key":"fruit","type":"set","elements":["apple","pear"]}`, "GET", "/v1/keys/fruit", "")
	a.want(200, `{"key":"ann","type":"map","fields":[
		{"name":"address","type":"map","fields":[
			{"name":"city","type":"string","value":"Oslo"},{"name":"moves","type":"string","value":"1"}]},
		{"name":"admin","type":"flag","enabled":true},
		{"name":"groups","type":"set","elements":["staff"]},
		{"name":"karma","type":"string","value":"-2"}]}`, "GET", "/v1/keys/ann", "")
	a.want(200, `{"key":"ann","path":["address","city"],"type":"string","value":"Oslo"}`,
		"GET", "/v1/keys/ann?path=address&path=city", "")
	a.tx(`{"changed":["ann","door","fruit","hits","note"],"results":[{"changed":true},{"changed":true},
			{"changed":false},{"changed":true},{"changed":true,"count":1},{"changed":true},{"changed":true},
			{"changed":true},{"changed":false}]}`,
		`{"op":"register.clear","path":["note"]}`,
		`{"op":"counter.reset","path":["hits"]}`,
		`{"op":"counter.reset","path":["hits"]}`,
		`{"op":"flag.disable","path":["door"]}`,
		`{"op":"set.remove","path":["fruit"],"elements":["apple","plum"]}`,
		`{"op":"set.clear","path":["ann","groups"]}`,
		`{"op":"map.clear","path":["ann","address"]}`,
		`{"op":"delete","path":["ann","admin"]}`,
		`{"op":"delete","path":["nothing"]}`)
	a.want(200, `{"key":"ann","type":"map","fields":[{"name":"karma","type":"string","value":"-2"}]}`,
		"GET", "/v1/keys/ann", "")
	a.want(200, `{"keys":[{"key":"ann","types":["map"]},{"key":"fruit","types":["set"]},
		{"key":"greeting","types":["string"]}]}`, "GET", "/v1/keys", "")
	a.tx(`{"changed":["fruit"],"results":[{"changed":true,"count":1},{"changed":false,"count":0}]}`,
		`{"op":"delete","prefix":"fr"}`, `{"op":"delete","prefix":"fr"}`)
}

func TestAddingZeroChangesOnlyWhatWasNotThere(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.tx(`{"changed":["n","z"],"results":[{"changed":true,"value":0},{"changed":false,"value":0},
			{"changed":true,"value":0},{"changed":false,"value":0}]}`,
		`{"op":"string.add","path":["z"],"by":0}`, `{"op":"string.add","path":["z"],"by":0}`,
		`{"op":"counter.add","path":["n"],"by":0}`, `{"op":"counter.add","path":["n"],"by":0}`)
	a.want(200, `{"keys":[{"key":"n","types":["string"]},{"key":"z","types":["string"]}]}`, "GET", "/v1/keys", "")
}

func TestATransactionThatFailsChangesNothing(t *testing.T) {
	a := newAPI(t, peer.Config{})
	half := `"elements":["` + strings.Repeat(`x","`, peer.MaxOps/2) + `"]}` // of one too many
	a.tx(`{"changed":["s","text"],"results":[{"changed":true,"count":1},{"changed":true}]}`,
		`{"op":"set.add","path":["s"],"elements":["e"]}`, `{"op":"string.set","path":["text"],"value":"t"}`)
	for _, test := range []struct {
		op   string
		code int
		why  string
	}{
		{`{"op":"string.set","path":["s"],"value":"v"}`, 409, "wrong-type"},
		{`{"op":"set.add","path":["text"],"elements":["e"]}`, 409, "wrong-type"},
		{`{"op":"string.set","path":["s","field"],"value":"v"}`, 409, "wrong-type"},
		{`{"op":"string.add","path":["text"],"by":1}`, 409, "not-an-integer"},
		{`{"op":"string.add","path":["max"],"by":1}`, 409, "overflow"},
		{`{"op":"string.set","path":["` + strings.Repeat("k", crdt.MaxName+1) + `"],"value":"v"}`, 413, "too-long"},
		{`{"op":"string.set","path":["k"],"value":"` + strings.Repeat("v", crdt.MaxValue+1) + `"}`, 413, "too-long"},
		{`{"op":"set.add","path":["big"],"elements":["` + strings.Repeat(`e","`, peer.MaxOps) + `"]}`, 413, "too-large"},
		{`{"op":"sorted-set.remove","path":["z"],` + half + `,{"op":"set.remove","path":["s"],` + half, 413, "too-large"},
		{`{"op":"delete","prefix":""}` + strings.Repeat(`,{"op":"delete","prefix":"s"}`, MaxPrefixes), 413, "too-large"},
		{`{"op":"bitmap.unset","path":["b"],"bits":[` + strings.Repeat("0,", peer.MaxOps) + `0]}`, 413, "too-large"},
	} {
		detail := a.refused(test.code, test.why, "POST", "/v1/tx", `{"ops":[
			{"op":"string.set","path":["new"],"value":"v"},
			{"op":"string.set","path":["max"],"value":"9223372036854775807"},`+test.op+`]}`)
		if !strings.HasPrefix(detail, "nothing was done, because of ops[2]") &&
			!strings.HasPrefix(detail, "transaction too large") {
			t.Errorf("the detail %.100q does not say which operation", detail)
		}
	}
	a.want(200, `{"keys":[{"key":"s","types":["set"]},{"key":"text","types":["string"]}]}`, "GET", "/v1/keys", "")
	few := strings.Repeat(`,{"op":"delete","prefix":"s"}`, MaxPrefixes)
	if w := a.do("POST", "/v1/tx", `{"ops":[`+few[1:]+`]}`); w.Code != 200 {
		t.Errorf("%d deletes by prefix: %d %s", MaxPrefixes, w.Code, w.Body)
	}
}

func TestARequestThatMakesNoSenseIsToldWhatWouldBe(t *testing.T) {
	a := newAPI(t, peer.Config{})
	long := `{"ops":[` + strings.Repeat(`{"op":"delete","path":["k"]},`, MaxOperations) +
		`{"op":"delete","path":["k"]}]}`
	deep := strings.Repeat(`"type":"map","fields":[{"name":"f",`, 40)
	for _, test := range []struct{ method, path, body, says string }{
		{"POST", "/v1/tx", `{"ops":[]}`, "from 1 to 4096"},
		{"POST", "/v1/tx", long, "from 1 to 4096"},
		{"POST", "/v1/tx", `{`, "the body"},
		{"POST", "/v1/tx", `{"ops":[]} x`, "the body"},
		{"POST", "/v1/tx", "{\"ops\":[{\"op\":\"delete\",\"path\":[\"\xff\"]}]}", "not UTF-8"},
		{"POST", "/v1/tx", `{"operations":[]}`, `there is no member "operations"`},
		{"POST", "/v1/tx", `{"ops":[{"op":"strings.set","path":["k"],"value":"v"}]}`, `no operation "strings.set"`},
		{"POST", "/v1/tx", `{"ops":[{"op":"string.set","path":["k"]}]}`, "string.set needs value"},
		{"POST", "/v1/tx", `{"ops":[{"op":"flag.enable","path":["k"],"by":1}]}`, "takes no by"},
		{"POST", "/v1/tx", `{"ops":[{"op":"string.add","path":["k"],"by":1.5}]}`, "number 1.5"},
		{"POST", "/v1/tx", `{"ops":[{"op":"string.add","path":["k"],"by":9223372036854775808}]}`, "number"},
		{"POST", "/v1/tx", `{"ops":[{"op":"delete"}]}`, "name a key"},
		{"POST", "/v1/tx", `{"ops":[{"op":"delete","path":["k"],"prefix":"k"}]}`, "in place of path"},
		{"POST", "/v1/tx", `{"ops":[{"op":"set.clear","prefix":"k"}]}`, "prefix is for delete"},
		{"POST", "/v1/tx", `{"ops":[{"op":"delete","path":["k"]},{"op":"string.set","path":["k"],"value":5}]}`,
			`ops.value must be a text, or {"base64": "…"} in standard base64, and is a number`},
		{"PUT", "/v1/keys/k", `{"type":"string","value":true}`, "value must be a text, or {"},
		{"POST", "/v1/tx", `{"ops":[{"op":"delete","path":[null]}]}`, "base64"},
		{"POST", "/v1/tx", `{"ops":[{"op":"delete","path":[{"base64":"?"}]}]}`, "base64"},
		{"POST", "/v1/tx", `{"ops":[{"op":"delete","path":[{"base64":"AA==","x":"y"}]}]}`, "base64"},
		{"POST", "/v1/tx", `{"ops":[{"op":"delete","path":["\ud800"]}]}`, "surrogate"},
		{"POST", "/v1/tx", `{"ops":[{"op":"delete","path":["\udc00\ud800"]}]}`, "surrogate"},
		{"POST", "/v1/tx", `{"ops":[{"op":"sorted-set.add","path":["k"],"scores":[{"score":1}]}]}`, "needs element"},
		{"POST", "/v1/tx", `{"ops":[{"op":"sorted-set.set","path":["k"],"scores":[{"element":"e"}]}]}`, "scores[0]: needs"},
		{"PUT", "/v1/keys/k", `{"type":"sorted-set","scores":[{"element":"e","score":null}]}`, "needs element and score"},
		{"PUT", "/v1/keys/k", `{"type":"map","fields":[{"type":"flag","enabled":true}]}`, "fields[0]: needs name"},
		{"PUT", "/v1/keys/k", `{"type":"none"}`, "map, set, sorted-set, list, stream, string"},
		{"PUT", "/v1/keys/k", `{"type":"string"}`, "needs value"},
		{"PUT", "/v1/keys/k", `{"type":"string","value":"v","enabled":true}`, "has nothing of a flag"},
		{"PUT", "/v1/keys/k", `{"type":"set","elements":["e"],"cursor":"c"}`, "a part"},
		{"PUT", "/v1/keys/k", `{"key":"other","type":"flag","enabled":true}`, "another place than the URL"},
		{"PUT", "/v1/keys/k", `{"key":"","type":"flag","enabled":true}`, "another place than the URL"},
		{"PUT", "/v1/keys/k", `{"path":["f"],"type":"flag","enabled":true}`, "another place than the URL"},
		{"PUT", "/v1/keys/k?path=f", `{"path":["g"],"type":"flag","enabled":true}`, "another place than the URL"},
		{"PUT", "/v1/keys/k", `{"type":"map","fields":[{"name":"f","type":"set"}]}`, `field "f": a set needs`},
		{"PUT", "/v1/keys/k", "{" + deep + `"type":"flag","enabled":true}` + strings.Repeat("]}", 40), "nested deeper"},
		{"GET", "/v1/keys?limit=0", "", "from 1 to 10000"},
		{"GET", "/v1/keys?limit=many", "", "from 1 to 10000"},
		{"GET", "/v1/keys?cursor=%3F", "", "pass on"},
		{"GET", "/v1/keys?prefixes=a", "", `"prefixes"`},
		{"GET", "/v1/keys?prefix=a&prefix=b", "", `"prefix" several times`},
		{"GET", "/v1/keys/k?token=a&token=b", "", `"token" several times`},
		{"GET", "/v1/backup?token=a", "", `"token", which means nothing here`},
		{"GET", "/v1/spaces?wait=1s", "", `"wait", which means nothing here`},
		{"GET", "/v1/keys?wait=1", "", "500ms"},
		{"GET", "/v1/keys?wait=-1s", "", "500ms"},
		{"GET", "/v1/keys?a=%zz", "", "the query"},
		{"GET", "/v1/keys/k?conflicts=maybe", "", "true or false"},
		{"GET", "/v1/keys/k?" + strings.Repeat("path=f&", 32), "", "limit 32"},
	} {
		if detail := a.refused(400, "bad-request", test.method, test.path, test.body); !strings.Contains(detail, test.says) {
			t.Errorf("%s %s %.80s: %q, want %q", test.method, test.path, test.body, detail, test.says)
		}
	}
	a.refused(400, "bad-token", "GET", "/v1/keys?token=x", "")
	a.refused(400, "bad-token", "GET", "/v1/watch?since=x", "")
	a.refused(413, "too-large", "POST", "/v1/tx", `"`+strings.Repeat("x", MaxBody)+`"`)
	w := a.do("POST", "/v1/tx", `{"ops":[{"op":"delete","path":["k"]}]}`, "Content-Type: text/plain")
	if w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a body that a form could send is answered with %d, want 415", w.Code)
	}
}

func TestAKeyIsPutReadAndDeleted(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.refused(404, "not-found", "GET", "/v1/keys/k", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", `{"type":"set","elements":["b","a"]}`)
	a.want(200, `{"key":"k","type":"set","elements":["a","b"]}`, "GET", "/v1/keys/k", "")
	const person = `{"type":"map","fields":[{"name":"mail","type":"string","value":"m"},
		{"name":"on","type":"flag","enabled":true},{"name":"tags","type":"set","elements":["x"]}]}`
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", person)
	a.want(200, `{"key":"k",`+person[1:], "GET", "/v1/keys/k", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", a.do("GET", "/v1/keys/k", "").Body.String())
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k?path=inner&path=deep", `{"type":"string","value":"1"}`)
	const inner = `{"key":"k","path":["inner"],"type":"map","fields":[{"name":"deep","type":"string","value":"1"}]}`
	a.want(200, inner, "GET", "/v1/keys/k?path=inner", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k?path=inner", inner)
	a.refused(409, "wrong-type", "PUT", "/v1/keys/k?path=mail&path=x", `{"type":"string","value":"1"}`)
	a.want(200, `{"changed":["k"]}`, "DELETE", "/v1/keys/k?path=inner", "")
	a.want(200, `{"key":"k",`+person[1:], "GET", "/v1/keys/k", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", `{"type":"string","value":"text"}`)
	a.want(200, `{"key":"k","type":"string","value":"text","values":["text"]}`,
		"GET", "/v1/keys/k?conflicts=true", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k",
		a.do("GET", "/v1/keys/k?conflicts=true", "").Body.String())
	a.want(200, `{"changed":["k"]}`, "DELETE", "/v1/keys/k", "")
	a.want(200, `{"changed":[]}`, "DELETE", "/v1/keys/k", "")
	a.refused(404, "not-found", "GET", "/v1/keys/k", "")
	for _, key := range []string{"a/b", "a//b", "..", ".", "%", "ü", "a b", "", "?", "#"} {
		at := "/v1/keys/" + strings.ReplaceAll(url.PathEscape(key), ".", "%2E")
		a.want(200, `{"changed":[`+mustJSON(t, key)+`]}`, "PUT", at, `{"type":"flag","enabled":true}`)
		a.want(200, `{"key":`+mustJSON(t, key)+`,"type":"flag","enabled":true}`, "GET", at, "")
	}
	a.want(200, `{"key":"a/b","type":"flag","enabled":true}`, "GET", "/v1/keys/a/b", "")
}

func TestAStreamIsPutAsItIsRead(t *testing.T) {
	a := newAPI(t, peer.Config{})
	const log = `{"type":"stream","entries":[{"id":"5-1","fields":["a","1"]},{"id":"5-1","fields":["a","2"]},
		{"id":"6-0","fields":["b","3"]}]}` // as two replicas make them
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", log)
	a.want(200, `{"key":"k",`+log[1:], "GET", "/v1/keys/k", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", a.do("GET", "/v1/keys/k", "").Body.String())
	for _, ids := range [][2]string{{"5-1", "5-0"}, {"0-0", "1-0"}, {"5", "6-0"}} {
		body := fmt.Sprintf(`{"type":"stream","entries":[{"id":%q,"fields":["a","1"]},{"id":%q,"fields":["a","1"]}]}`, ids[0], ids[1])
		a.refused(400, "bad-request", "PUT", "/v1/keys/k", body)
	}
	many := strings.TrimSuffix(strings.Repeat(`{"id":"7-0","fields":["a","1"]},`, crdt.MaxBeside), ",")
	a.refused(400, "bad-request", "PUT", "/v1/keys/k", `{"type":"stream","entries":[{"id":"7-0","fields":["a","1"]},`+many+`]}`)
	a.want(200, `{"key":"k",`+log[1:], "GET", "/v1/keys/k", "")
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", `{"type":"stream","entries":[`+many+`]}`)
}

func TestAPutWithConcurrentTextsIsRefused(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.put("k", "was", "")
	for _, body := range []string{
		`{"type":"string","value":"mine","values":["mine","theirs"]}`,
		`{"type":"string","value":"both","values":["mine"]}`,
		`{"type":"map","fields":[{"name":"f","type":"string","value":"mine","values":["theirs","mine"]}]}`,
		`{"type":"set","elements":["e"],"values":["mine"]}`,
	} {
		a.refused(400, "bad-request", "PUT", "/v1/keys/k", body)
		a.want(200, `{"key":"k","type":"string","value":"was"}`, "GET", "/v1/keys/k", "")
	}
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Every byte string goes in and comes out as it is, as a key, a field, an element and a value, in
// whichever form it is sent.
func TestEveryByteStringComesBackAsItWasSent(t *testing.T) {
	a := newAPI(t, peer.Config{})
	texts := rapid.OneOf(
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) string { return string(b) }),
		rapid.String(),
		rapid.SampledFrom([]string{"", "\x00", "\xff", "\ufffd", "\U0001f9e9", `{"base64":"AA=="}`, `\ud800`, "<&>\u2028"}))
	rapid.Check(t, func(rt *rapid.T) {
		key, field, value := texts.Draw(rt, "key"), texts.Draw(rt, "field"), texts.Draw(rt, "value")
		encode := func(s string) string {
			if rapid.Bool().Draw(rt, "as base64") {
				return `{"base64":"` + base64.StdEncoding.EncodeToString([]byte(s)) + `"}`
			}
			return mustJSON(t, octets(s))
		}
		w := a.do("POST", "/v1/tx", fmt.Sprintf(`{"ops":[{"op":"delete","path":[%s]},
			{"op":"set.add","path":[%s,%s],"elements":[%s]},{"op":"string.set","path":[%s,%s],"value":%s}]}`,
			encode(key), encode(key), encode(field), encode(value), encode(key), encode("v"+field), encode(value)))
		if w.Code != 200 {
			rt.Fatalf("%d %s", w.Code, w.Body)
		}
		at := "/v1/keys/" + strings.ReplaceAll(url.PathEscape(key), ".", "%2E")
		w = a.do("GET", at+"?path="+url.QueryEscape(field), "")
		var e entry
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Elements == nil {
			rt.Fatalf("%v: %d %s", err, w.Code, w.Body)
		}
		if string(*e.Key) != key || string(e.Path[0]) != field || string((*e.Elements)[0]) != value {
			rt.Errorf("%q %q %q came back as %q %q %q", key, field, value, *e.Key, e.Path[0], *e.Elements)
		}
		w = a.do("GET", at+"?path="+url.QueryEscape("v"+field), "")
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || string(*e.Value) != value {
			rt.Errorf("%q came back as %s", value, w.Body)
		}
	})
}

func TestAKeyInAPathIsTakenAsItIs(t *testing.T) {
	a := newAPI(t, peer.Config{})
	for _, path := range []string{"a//b", "/x", "a/", "//", "a/./b", "a/../b", ".", "..", "../tx", "a%2Fb", "a/%2E"} {
		key, err := url.PathUnescape(path)
		if err != nil {
			t.Fatal(err)
		}
		a.want(200, fmt.Sprintf(`{"changed":[%q]}`, key), "PUT", "/v1/keys/"+path, `{"type":"flag","enabled":true}`)
		a.want(200, fmt.Sprintf(`{"key":%q,"type":"flag","enabled":true}`, key), "GET", "/v1/keys/"+path, "")
		a.want(200, fmt.Sprintf(`{"changed":[%q]}`, key), "DELETE", "/v1/keys/"+path, "")
	}
}

func TestPagesGoThroughAllKeysElementsAndFieldsOnce(t *testing.T) {
	a := newAPI(t, peer.Config{})
	var keys, members []string
	for i := range 25 {
		keys = append(keys, fmt.Sprintf("k%02d", i))
		members = append(members, fmt.Sprintf("m%02d", i))
	}
	err := a.p.Update(context.Background(), func(tx *peer.Tx) error {
		for i := range keys {
			if err := tx.Flag(keys[i]).Set(true); err != nil {
				return err
			}
			if _, err := tx.Set("set").Add(members[i]); err != nil {
				return err
			}
			if err := tx.Map("map").String(members[i]).Set(nil); err != nil {
				return err
			}
		}
		return tx.Flag("").Set(true)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 7, 25, 1000} {
		for path, want := range map[string][]string{
			"/v1/keys?prefix=k": keys, "/v1/keys/set?": members, "/v1/keys/map?": members,
			"/v1/keys?": append(append([]string{""}, keys...), "map", "set"),
		} {
			got := a.pages(fmt.Sprintf("%s&limit=%d", path, limit), len(want)+2)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s by %d (-want +got):\n%s", path, limit, diff)
			}
		}
	}
}

func (a *api) pages(path string, most int) (names []string) {
	a.t.Helper()
	cursor := ""
	for range most {
		var page struct {
			Keys     []listed
			Elements []octets
			Fields   []struct{ Name octets }
			Cursor   string
		}
		w := a.do("GET", path+cursor, "")
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
			a.t.Fatalf("%v: %s", err, w.Body)
		}
		for _, k := range page.Keys {
			names = append(names, string(k.Key))
		}
		for _, e := range page.Elements {
			names = append(names, string(e))
		}
		for _, f := range page.Fields {
			names = append(names, string(f.Name))
		}
		if page.Cursor == "" {
			return names
		}
		cursor = "&cursor=" + page.Cursor
	}
	a.t.Fatalf("%s: more than %d pages", path, most)
	return nil
}

func TestAnAnswerIsBounded(t *testing.T) {
	a := newAPI(t, peer.Config{})
	for i := range 3 {
		err := a.p.Update(context.Background(), func(tx *peer.Tx) error {
			for j := range 5000 {
				if _, err := tx.Map("m").Set("inner").Add(fmt.Sprint(i, ":", j)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if detail := a.refused(413, "too-large", "GET", "/v1/keys/m", ""); !strings.Contains(detail, "MaxItems") {
		t.Errorf("%q does not name the limit", detail)
	}
	if got := a.pages("/v1/keys/m?path=inner&limit=10000", 3); len(got) != 15000 {
		t.Errorf("by pages there are %d elements, want 15000", len(got))
	}
}

func TestARequestWithATokenWaitsForItOrIsToldWhatIsMissing(t *testing.T) {
	a, other := newAPI(t, peer.Config{}), newAPI(t, peer.Config{})
	token := a.tx(`{"changed":["k"],"results":[{"changed":true}]}`, `{"op":"flag.enable","path":["k"]}`)
	a.want(200, `{"key":"k","type":"flag","enabled":true}`, "GET", "/v1/keys/k?token="+token, "")
	a.want(200, `{"changed":["k"]}`, "DELETE", "/v1/keys/k", "", "X-Peerd-Token: "+token)
	status, err := a.p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/keys/k?wait=0s", "/v1/keys?wait=10ms", "/v1/watch?wait=0s"} {
		w := other.do("GET", path, "", "X-Peerd-Token: "+token)
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		want := map[string]uint64{status.Replica: 1}
		if diff := cmp.Diff(want, p.Missing); w.Code != 504 || p.Code != "not-seen" || diff != "" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	other.refused(504, "not-seen", "POST", "/v1/tx?wait=0s&token="+token, `{"ops":[{"op":"delete","path":["k"]}]}`)
	own := other.put("k", "v", "")
	for _, test := range []struct{ header, query string }{{token, own}, {own, token}} {
		w := other.do("GET", "/v1/keys/k?wait=0s&token="+test.query, "", "X-Peerd-Token: "+test.header)
		if w.Code != 504 {
			t.Errorf("of two tokens one is not waited for: %d %s", w.Code, w.Body)
		}
	}
}

// TestAWaitForWritesThatAreLostIsAnsweredSo that a client goes on without its token, and not with
// the same one.
func TestAWaitForWritesThatAreLostIsAnsweredSo(t *testing.T) {
	missing := map[string]uint64{"00000000000000aa": 3}
	p := problemOf(errors.Join(&peer.NotSeenError{Missing: missing}, peer.ErrLost))
	if diff := cmp.Diff(missing, p.Missing); p.Status != http.StatusGone || p.Code != "lost" || diff != "" {
		t.Errorf("%d %s %s", p.Status, p.Code, diff)
	}
}

func FuzzTransaction(f *testing.F) {
	f.Add(`{"ops":[{"op":"string.set","path":["k"],"value":"v"}]}`)
	f.Add(`{"ops":[{"op":"set.add","path":["k",{"base64":"/w=="}],"elements":["e"]},{"op":"delete","prefix":""}]}`)
	f.Add(`{"ops":[{"op":"string.add","path":["k"],"by":-1}]}`)
	f.Add(`{"ops":[{"op":"string.set","paTh":["k"],"value":"v"}]}`)
	f.Add(`{"op\u0073":[{"\u006fp":"string.set","path":["k\""],"value":"a:b\\"}]}`)
	f.Add(`{"ops":[{"op":"delete","path":["\ud83e\udde9\ud800"]}]}`)
	a := newAPI(f, peer.Config{})
	f.Fuzz(func(t *testing.T, body string) {
		fuzzed := *a
		fuzzed.t = t
		if w := fuzzed.do("POST", "/v1/tx", body); w.Code >= 500 {
			t.Errorf("%q is answered with %d %s", body, w.Code, w.Body)
		}
	})
}

func TestAnEntryOfManyEmptyFieldsIsNoSmallAnswer(t *testing.T) {
	a := newAPI(t, peer.Config{})
	err := a.p.Update(t.Context(), func(tx *peer.Tx) error {
		return tx.Stream("s").AddBeside(crdt.StreamID{Ms: 1}, make([]string, MaxAnswer/memberSize+2)...)
	})
	if err != nil {
		t.Fatal(err)
	}
	a.refused(413, "too-large", "GET", "/v1/keys/s", "")
}

// countingPeer counts the transactions that are begun, and comes to none.
type countingPeer struct {
	fakePeer
	begun int
}

func (p *countingPeer) UpdateToken(context.Context, func(*peer.Tx) error) (peer.Token, error) {
	p.begun++
	return "", context.DeadlineExceeded
}

func TestAPutOfTooManyMembersIsRefusedBeforeItsTurn(t *testing.T) {
	many := func(member string, n int) string { return strings.TrimSuffix(strings.Repeat(member+",", n), ",") }
	list := func(n int) string { return `"type":"list","items":[` + many(`""`, n) + `]` }
	inner := func(n int) string { return `"type":"map","fields":[{"name":"f",` + list(n) + `}]` }
	half := many(`{"name":"s","type":"set","elements":["e"]}`, peer.MaxOps/2)
	for _, test := range []struct {
		body string
		code int
	}{
		{list(peer.MaxOps), 503},
		{list(peer.MaxOps + 1), 413},
		{inner(peer.MaxOps), 503},
		{inner(peer.MaxOps + 1), 413},
		{`"type":"map","fields":[` + half + `]`, 503},
		{`"type":"map","fields":[` + half + `,` + half + `,{"name":"f","type":"flag","enabled":true}]`, 413},
	} {
		p := &countingPeer{}
		r := httptest.NewRequest("PUT", "http://localhost/v1/keys/k", strings.NewReader("{"+test.body+"}"))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		New(Config{Peer: p}).ServeHTTP(w, r)
		if w.Code != test.code || (p.begun > 0) != (test.code == 503) {
			t.Errorf("%.60s…: answered %d %s, and %d transactions began", test.body, w.Code, w.Body, p.begun)
		}
	}
}
