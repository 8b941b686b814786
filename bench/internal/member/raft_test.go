package member

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// What one member has acknowledged a sure read at any other shows at once, and a local one in the end.
func TestAnyMemberOfRaftWritesAndReads(t *testing.T) {
	const peers, clients = ":21440", ":21441"
	cluster := map[string]string{}
	for i := range 3 {
		cluster[fmt.Sprint(i)] = fmt.Sprintf("127.0.98.%d%s", i+1, peers)
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for i := range 3 {
		host := fmt.Sprintf("127.0.98.%d", i+1)
		m := Member{Name: fmt.Sprint(i), Dir: t.TempDir(), Peers: host + peers, Clients: host + clients, Cluster: cluster}
		all.Go(func() {
			if err := m.raft(ctx); err != nil {
				t.Error(err)
				stop()
			}
		})
	}
	ask := func(member int, method, path, body string) (answer string, status int) {
		url := fmt.Sprintf("http://127.0.98.%d%s%s", member+1, clients, path)
		request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err.Error(), 0
		}
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		if err != nil {
			return err.Error(), 0
		}
		return string(data), response.StatusCode
	}
	// sure asks until the member can be sure, which it cannot while a leader is elected.
	sure := func(member int, method, path, body string) (answer string, status int) {
		for deadline := time.Now().Add(time.Minute); ; {
			answer, status = ask(member, method, path, body)
			if status == http.StatusOK || status == http.StatusNotFound || ctx.Err() != nil || time.Now().After(deadline) {
				return answer, status
			}
		}
	}
	for i := range 3 {
		key := fmt.Sprint("/key", i)
		if answer, status := sure(i, http.MethodPut, key, "value"); status != http.StatusOK {
			t.Fatalf("member %d does not write: %d %q", i, status, answer)
		}
		for j := range 3 {
			if answer, status := sure(j, http.MethodGet, key, ""); status != http.StatusOK || answer != "value" {
				t.Errorf("member %d reads %d %q of what %d wrote", j, status, answer, i)
			}
		}
	}
	for i := range 3 {
		for deadline := time.Now().Add(time.Minute); ; {
			if answer, _ := ask(i, http.MethodGet, "/key2?local", ""); answer == "value" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("member %d does not show it", i)
			}
		}
	}
	if answer, status := sure(0, http.MethodGet, "/none", ""); status != http.StatusNotFound {
		t.Errorf("of a key that is not there: %d %q", status, answer)
	}
	leaders := 0
	for i := range 3 {
		if _, status := ask(i, http.MethodGet, "/?leader", ""); status == http.StatusOK {
			leaders++
		}
	}
	if leaders != 1 {
		t.Errorf("%d lead", leaders)
	}
}
