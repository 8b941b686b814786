package httpapi

import (
	"testing"

	"github.com/peerd/peerd/peer"
)

func TestASortedSetIsPutReadAndWrittenTo(t *testing.T) {
	a := newAPI(t, peer.Config{})
	const board = `"type":"sorted-set","scores":[{"element":"ann","score":12.5},{"element":{"base64":"/w=="},"score":"-inf"}]`
	a.want(200, `{"changed":["k"]}`, "PUT", "/v1/keys/k", `{`+board+`}`)
	a.want(200, `{"key":"k",`+board+`}`, "GET", "/v1/keys/k", "")
	a.tx(`{"changed":["k"],"results":[{"changed":true,"count":2},{"changed":false,"count":0},
			{"changed":true,"scores":[{"element":"ann","score":12.75},{"element":"dee","score":-1}]},
			{"changed":true,"count":1}]}`,
		`{"op":"sorted-set.set","path":["k"],"scores":[{"element":"bob","score":1},{"element":"cid","score":"inf"},{"element":"bob","score":1}]}`,
		`{"op":"sorted-set.set","path":["k"],"scores":[{"element":"bob","score":1}]}`,
		`{"op":"sorted-set.add","path":["k"],"scores":[{"element":"ann","score":0.25},{"element":"dee","score":-1}]}`,
		`{"op":"sorted-set.remove","path":["k"],"elements":[{"base64":"/w=="},"none"]}`)
	a.refused(400, "bad-request", "POST", "/v1/tx",
		`{"ops":[{"op":"sorted-set.add","path":["k"],"scores":[{"element":"cid","score":"-inf"}]}]}`)
	a.refused(400, "bad-request", "POST", "/v1/tx",
		`{"ops":[{"op":"sorted-set.set","path":["k"],"scores":[{"element":"cid","score":"x"}]}]}`)
	a.want(200, `{"key":"k","type":"sorted-set","cursor":"bmJvYg","scores":[{"element":"ann","score":12.75},{"element":"bob","score":1}]}`,
		"GET", "/v1/keys/k?limit=2", "")
	a.want(200, `{"key":"k","type":"sorted-set","scores":[{"element":"cid","score":"inf"},{"element":"dee","score":-1}]}`,
		"GET", "/v1/keys/k?limit=2&cursor=bmJvYg", "")
	a.tx(`{"changed":["k"],"results":[{"changed":true}]}`, `{"op":"sorted-set.clear","path":["k"]}`)
	a.refused(404, "not-found", "GET", "/v1/keys/k", "")
}
