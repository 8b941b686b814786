package httpapi

import (
	_ "embed"
	"net/http"
)

// document describes the routes. A test holds it against them, both ways.
//
//go:embed openapi.yaml
var document []byte

func openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_ = write(w, document)
}
