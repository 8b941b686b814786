package lab

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A daemon that was started elsewhere is profiled too, by its socket alone: first for a short time, as
// it may not live for long, and not after its end.
func TestProfilesOfADaemonAreKeptUntilItEnds(t *testing.T) {
	for kind, asked := range ProfileKinds {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			l := &Lab{Profile: Profile{Kind: kind, Dir: dir, Of: "spread"}}
			socket := filepath.Join(dir, "s")
			if args := l.ProfileArgs(socket); strings.Join(args, " ") != "--pprof-socket "+socket {
				t.Errorf("the daemon is started with %q", args)
			}
			ended := make(chan struct{})
			var asks []string
			server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, "profile ", len(asks))
				if asks = append(asks, r.URL.Path+"?"+r.URL.RawQuery); len(asks) == 5 {
					close(ended)
				}
			})}
			listener, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = server.Serve(listener) }()
			l.KeepProfiles(t.Context(), ended, socket, "2-of-3")
			l.profiling.Wait()
			server.Close()
			for i, seconds := range []int{1, 2, 4, 5, 5} {
				if want := fmt.Sprintf("/debug/pprof/%s?seconds=%d", asked, seconds); asks[i] != want {
					t.Errorf("it is asked for %q, not %q", asks[i], want)
				}
			}
			kept, err := filepath.Glob(filepath.Join(dir, "spread-2-of-3."+kind+".*"))
			if err != nil || len(kept) == 0 {
				t.Fatalf("%d profiles are kept (%v)", len(kept), err)
			}
			last, err := os.ReadFile(kept[len(kept)-1])
			if err != nil || string(last) != "profile 4" {
				t.Errorf("the last profile is %q (%v)", last, err)
			}
		})
	}
}

func TestNoProfilesAreKeptUnasked(t *testing.T) {
	l := &Lab{}
	l.KeepProfiles(t.Context(), nil, "nowhere", "one")
	l.profiling.Wait()
	if args := l.ProfileArgs("nowhere"); args != nil {
		t.Errorf("a daemon is started with %q", args)
	}
}
