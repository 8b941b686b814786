package httpapi

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/peer"
)

// description is the document, parsed once.
var description = sync.OnceValue(func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		panic(err)
	}
	return doc
})

func init() {
	openapi3filter.RegisterBodyDecoder("application/yaml", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/vnd.peerd.backup", openapi3filter.FileBodyDecoder)
}

// conforms checks an answer, and the request if it was not refused, against the document.
func conforms(t testing.TB, r *http.Request, body string, w *httptest.ResponseRecorder) {
	t.Helper()
	path, key := r.URL.Path, ""
	if strings.HasPrefix(path, "/v1/keys/") {
		path, key = "/v1/keys/{key}", strings.TrimPrefix(path, "/v1/keys/")
	}
	item := description().Paths.Value(path)
	if item == nil || r.Method == http.MethodHead || w.Code == http.StatusMethodNotAllowed {
		return
	}
	request := r.Clone(context.Background())
	request.Body = io.NopCloser(strings.NewReader(body))
	asked := &openapi3filter.RequestValidationInput{
		Request:    request,
		PathParams: map[string]string{"key": key},
		Route: &routers.Route{
			Spec: description(), Path: path, PathItem: item, Method: r.Method,
			Operation: item.GetOperation(r.Method),
		},
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
		},
	}
	var err error
	// The library knows no empty parameter in a path, and none that is not UTF-8.
	if w.Code == http.StatusOK && (key != "") == (path != r.URL.Path) && utf8.ValidString(key) {
		err = openapi3filter.ValidateRequest(context.Background(), asked)
	}
	if err == nil {
		err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: asked, Status: w.Code, Header: w.Header(),
			Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())), Options: asked.Options,
		})
	}
	if err != nil {
		t.Errorf("%s %s is not as openapi.yaml says: %v\n%s\nis answered with %d %s", r.Method, r.URL, err,
			body, w.Code, w.Body)
	}
}

func TestTheDocumentIsOpenAPI(t *testing.T) {
	if err := description().Validate(context.Background()); err != nil {
		t.Error(err)
	}
}

// pages are routes for people, which the document leaves out.
var pages = []string{"GET /{$}", "GET /console.css", "GET /console.js"}

func TestTheDocumentDescribesEachRouteAndNoOther(t *testing.T) {
	var described, routed []string
	for path, item := range description().Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	s := New(Config{Peer: &fakePeer{}, Metrics: http.NotFoundHandler()})
	for _, r := range s.table() {
		if name := r.method + " " + r.path; !slices.Contains(pages, name) {
			routed = append(routed, strings.ReplaceAll(name, "...}", "}"))
		}
	}
	slices.Sort(described)
	slices.Sort(routed)
	if diff := cmp.Diff(routed, described); diff != "" {
		t.Errorf("routes and document differ (-routes +document):\n%s", diff)
	}
}

func TestTheDocumentListsEachOperationAndNoOther(t *testing.T) {
	found := map[string]bool{}
	for _, form := range description().Components.Schemas["operation"].Value.OneOf {
		op := form.Value.Properties["op"].Value
		for _, name := range op.Enum {
			found[name.(string)] = true
		}
		if op.Const != nil {
			found[op.Const.(string)] = true
		}
	}
	described := slices.Sorted(maps.Keys(found))
	if diff := cmp.Diff(slices.Sorted(maps.Keys(operations)), described); diff != "" {
		t.Errorf("operations and document differ (-operations +document):\n%s", diff)
	}
}

// allTypes returns all types that crdt has, in their order.
func allTypes() []crdt.Type {
	var all crdt.Types
	for b := range 256 {
		if t := all.With(crdt.Type(b)); t.Has(crdt.Type(b)) {
			all = t
		}
	}
	return slices.Collect(all.All())
}

func TestEachTypeHasAFormAndIsInTheDocument(t *testing.T) {
	var formed []crdt.Type
	var described []any
	for _, typ := range allTypes() {
		described = append(described, typ.String())
	}
	for _, f := range forms {
		formed = append(formed, f.typ)
	}
	if diff := cmp.Diff(allTypes(), formed); diff != "" {
		t.Errorf("the types of crdt and those of forms (-crdt +forms):\n%s", diff)
	}
	if diff := cmp.Diff(described, description().Components.Schemas["type"].Value.Enum); diff != "" {
		t.Errorf("types and document differ (-types +document):\n%s", diff)
	}
	members := description().Components.Schemas["value"].Value.Properties
	for _, f := range forms {
		if members[f.member] == nil {
			t.Errorf("a value in the document has no %s, which a %s needs", f.member, f.typ)
		}
	}
}

func TestTheDocumentListsTheCodeOfEachKnownProblem(t *testing.T) {
	problem := description().Components.Responses["problem"].Value.Content["application/problem+json"].Schema.Value
	listed := problem.Properties["code"].Value.Enum
	for _, known := range knownProblems {
		if !slices.Contains(listed, any(known.code)) {
			t.Errorf("%v is answered with the code %q, which the document does not list", known.err, known.code)
		}
	}
}

func TestTheDocumentNamesTheLimits(t *testing.T) {
	d := description()
	ops := d.Paths.Value("/v1/tx").Post.RequestBody.Value.Content["application/json"].Schema.Value.Properties["ops"]
	if got := *ops.Value.MaxItems; got != MaxOperations {
		t.Errorf("%d operations, the limit is %d", got, MaxOperations)
	}
	if got := *d.Components.Parameters["limit"].Value.Schema.Value.Max; got != MaxItems {
		t.Errorf("limit of %v, the limit is %d", got, MaxItems)
	}
	if got := *d.Components.Schemas["token"].Value.MaxLength; got != peer.MaxToken {
		t.Errorf("a token of %d bytes, the limit is %d", got, peer.MaxToken)
	}
}
