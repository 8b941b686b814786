package httpapi

import (
	"embed"
	"net/http"
)

// The console. It needs nothing but these three files and what the other routes answer.
//
//go:embed console
var consoleFiles embed.FS

// consoleFile answers with one file of the console, of the given media type.
func consoleFile(name, mediaType string) http.HandlerFunc {
	content, err := consoleFiles.ReadFile("console/" + name)
	if err != nil {
		panic(err) // a name in this package without its file
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType+"; charset=utf-8")
		_ = write(w, content)
	}
}
