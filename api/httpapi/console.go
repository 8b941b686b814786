package httpapi

import (
	"embed"
	"net/http"
)

// The status page. It needs nothing but these three files and /v1/status.
//
//go:embed page
var pageFiles embed.FS

// pageFile answers with one file of the page, of the given media type.
func pageFile(name, mediaType string) http.HandlerFunc {
	content, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		panic(err) // a name in this package without its file
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType+"; charset=utf-8")
		_, _ = w.Write(content)
	}
}
