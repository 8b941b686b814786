package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestConnectionsLeaveTheStoreItsFiles has anybody open all that a process with few files takes, at
// each of its ports. A store that cannot open a file would end it.
func TestConnectionsLeaveTheStoreItsFiles(t *testing.T) {
	const files = 1024
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	data := free.Addr().String()
	free.Close()
	script := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files)
	args := append([]string{"-c", script, os.Args[0], "run"}, anywhere...)
	stderr := newScreen()
	p := startCommand(t, stderr, exec.Command("sh", append(args, "--p2p", data, "--dir", t.TempDir())...)).serving(t)
	writer, err := dialRedis(t.Context(), p.redis)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	for _, port := range []string{p.redis, data, p.gossip, p.http} {
		for range files {
			conn, err := net.Dial("tcp", port)
			if err != nil {
				break
			}
			defer conn.Close()
		}
	}
	for i := range 64 { // more than three files of the log
		if _, err := writer.do(fmt.Sprintf("SET key:%d %s", i, strings.Repeat("v", 1<<20))); err != nil {
			t.Fatalf("write %d is answered %.200v; the log is\n%s", i, err, stderr)
		}
	}
}
