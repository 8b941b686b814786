package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// answer is what the test looks at of an answer over HTTP: a value, or a problem.
type answer struct {
	status int
	Value  any    `json:"value"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// ask sends a request over HTTP, with body as JSON unless it is nil, and fails the test if there is no answer.
func (d *daemon) ask(method, path string, body any) (a answer) {
	d.t.Helper()
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			d.t.Fatal(err)
		}
	}
	r, err := http.NewRequest(method, "http://"+d.net.addresses(d.host).http+path, &sent)
	if err != nil {
		d.t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	got, err := d.web.Do(r)
	if err != nil {
		d.t.Fatalf("%s %s of %s: %v", method, path, d.name, err)
	}
	defer got.Body.Close()
	a.status = got.StatusCode
	if err := json.NewDecoder(got.Body).Decode(&a); err != nil {
		d.t.Fatalf("%s %s of %s: %s: %v", method, path, d.name, got.Status, err)
	}
	return a
}

// askKey sends a request about a key of a space, with a string as the value unless it is nil.
func (d *daemon) askKey(method, space, key string, value any) answer {
	d.t.Helper()
	var body any
	if value != nil {
		body = map[string]any{"type": "string", "value": value}
	}
	return d.ask(method, "/v1/keys/"+url.PathEscape(key)+"?space="+url.QueryEscape(space), body)
}

// put writes a string to a space over HTTP, and fails the test unless that is acknowledged.
func (d *daemon) put(space, key, value string) {
	d.t.Helper()
	if a := d.askKey(http.MethodPut, space, key, value); a.status != http.StatusOK {
		d.t.Fatalf("a write to %s at %s: %d %s: %s", space, d.name, a.status, a.Code, a.Detail)
	}
}

// selected opens a Redis connection to a space: dbN, or any other for the one that is there without SELECT.
func (d *daemon) selected(space string) (*client, error) {
	c, err := d.connect()
	if err != nil {
		return nil, err
	}
	if n, numbered := strings.CutPrefix(space, "db"); numbered {
		if _, err = c.must([]command{{"SELECT", n}}); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// runIn is run in a space.
func (d *daemon) runIn(space string, commands ...command) []any {
	d.t.Helper()
	c, err := d.selected(space)
	if err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
	defer c.close()
	replies, err := c.must(commands)
	if err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
	return replies
}
