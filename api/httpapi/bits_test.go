package httpapi

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/peer"
)

func TestABitmapIsWrittenAndReadByBitsAndAsAWhole(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.tx(`{"changed":["days"],"results":[{"changed":true,"count":2},{"changed":true,"count":1},{"changed":false,"count":0},
			{"changed":true,"count":0}]}`,
		`{"op":"bitmap.set","path":["days"],"bits":[1,7]}`, `{"op":"bitmap.unset","path":["days"],"bits":[7]}`,
		`{"op":"bitmap.unset","path":["days"],"bits":[7]}`, `{"op":"bitmap.unset","path":["days"],"bits":[15]}`)
	a.want(200, `{"key":"days","type":"bitmap","bytes":"@\u0000"}`, "GET", "/v1/keys/days", "")
	a.want(200, `{"changed":["days"]}`, "PUT", "/v1/keys/days", `{"type":"bitmap","bytes":{"base64":"/w=="}}`)
	a.want(200, `{"key":"days","type":"bitmap","bytes":{"base64":"/w=="}}`, "GET", "/v1/keys/days", "")
	for _, bit := range []int{-1, 8 * crdt.MaxValue} {
		a.refused(400, "bad-request", "POST", "/v1/tx",
			fmt.Sprintf(`{"ops":[{"op":"bitmap.set","path":["days"],"bits":[0,%d]}]}`, bit))
	}
}

func TestAHyperLogLogCountsAndIsCopiedByItsRegisters(t *testing.T) {
	a := newAPI(t, peer.Config{})
	a.tx(`{"changed":["seen"],"results":[{"changed":true},{"changed":false}]}`,
		`{"op":"hyperloglog.add","path":["seen"],"elements":["a","b"]}`, `{"op":"hyperloglog.add","path":["seen"],"elements":["a"]}`)
	var r crdt.Registers
	r.Add("a")
	r.Add("b")
	shown := base64.StdEncoding.EncodeToString(r[:])
	a.want(200, `{"key":"seen","type":"hyperloglog","registers":"`+shown+`","count":2}`, "GET", "/v1/keys/seen", "")
	a.want(200, `{"changed":["copy"]}`, "PUT", "/v1/keys/copy", `{"type":"hyperloglog","count":7,"registers":"`+shown+`"}`)
	a.want(200, `{"key":"copy","type":"hyperloglog","registers":"`+shown+`","count":2}`, "GET", "/v1/keys/copy", "")
	a.refused(400, "bad-request", "PUT", "/v1/keys/copy", `{"type":"hyperloglog","registers":"AAAA"}`)
	beyond := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{52}, len(crdt.Registers{})))
	a.refused(400, "bad-request", "PUT", "/v1/keys/copy", `{"type":"hyperloglog","registers":"`+beyond+`"}`)
}
