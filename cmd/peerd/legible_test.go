package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"github.com/peerd/peerd/peer"
)

// evil is what a host may call itself, and anything else that it tells: it clears a screen, sets a
// window's title, writes over the line, and turns what follows around.
const evil = "os\x1b[2J\x1b]0;title\a\rlo\u009b31m\u202e\nforged\tø"

// TestNothingThatAnotherHostSaysSteersATerminal has a host answer with control characters in all
// texts, and looks at all that commands print.
func TestNothingThatAnotherHostSaysSteersATerminal(t *testing.T) {
	problem := peer.Problem{ID: evil, What: evil, Do: evil}
	space := peer.SpaceStatus{Space: evil, Replica: evil, ContextHash: evil, Root: evil, Reason: evil,
		Repairing: &peer.Repairing{From: evil}, Unchecked: 1}
	status := peer.Status{Name: evil, Version: evil, PeerID: evil, GossipAddr: evil, Reason: evil, Opening: evil, SpaceStatus: space,
		Spaces: []peer.SpaceStatus{space}, Problems: []peer.Problem{problem},
		Members: []peer.Member{{Name: evil, PeerID: evil, Addr: evil, Problem: evil, Alive: true,
			Told: &peer.Told{Version: evil, Reason: evil, Replica: evil, Problems: []string{evil}}}}}
	answers := map[string]any{ // others are refused
		"/v1/status": status,
		"/v1/spaces": map[string]any{"spaces": status.Spaces},
		"/v1/members": map[string]any{"members": status.Members,
			"removed": []peer.RemovedMember{{Name: evil, PeerID: evil}}},
		"/v1/members/x":          peer.RemovedMember{Name: evil, PeerID: evil},
		"/v1/cluster-key/rotate": peer.KeyChange{Key: evil, Done: true, Hosts: []peer.KeyHost{{Name: evil, PeerID: evil, State: evil}}},
		"/v1/invitations":        map[string]any{"token": evil},
		"/v1/keys":               map[string]any{"keys": []any{map[string]any{"key": evil}}},
		"/v1/keys/k":             map[string]any{"type": "string", "value": evil},
	}
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := answers[r.URL.Path]
		if answer == nil {
			w.WriteHeader(http.StatusConflict)
			answer = map[string]any{"code": evil, "detail": evil}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(host.Close)
	for _, line := range []string{
		"status", "status --json", "space list", "space drop orders", "member list", "member remove x", "member add someone",
		"key rotate", "key retire", "invite", "keys", "keys --json", "get k", "get k --json", "get refused", "wait --timeout 100ms",
		"backup -",
	} {
		var printed strings.Builder
		args := append(strings.Fields(line), "--http", host.URL)
		execute(t.Context(), args, &printed, &printed)
		if !strings.Contains(printed.String(), "lo") {
			t.Errorf("peerd %s does not show what the host says: %q", line, printed.String())
		}
		for i, r := range printed.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("peerd %s prints %q: %q", line, r, printed.String()[max(0, i-20):])
				break
			}
		}
		if strings.Contains(printed.String(), "\nforged") {
			t.Errorf("peerd %s prints a line of the host's own: %q", line, printed.String())
		}
	}
}

func TestJSONThatIsEscapedMeansTheSame(t *testing.T) {
	text, err := json.Marshal(map[string]string{evil: evil + "\U000e0001\x7f😀"})
	if err != nil {
		t.Fatal(err)
	}
	shown := escapedJSON(text)
	var before, after map[string]string
	if err := json.Unmarshal(text, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(shown, &after); err != nil || after[evil] != before[evil] {
		t.Errorf("%s, %v", shown, err)
	}
	for _, r := range string(shown) {
		if !unicode.IsPrint(r) {
			t.Errorf("%q is left", r)
		}
	}
}
