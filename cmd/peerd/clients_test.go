package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/peerd/peerd/api/httpapi"
	"github.com/peerd/peerd/api/resp"
)

func TestOneClientMoreThanConfiguredGetsRedisError(t *testing.T) {
	d := run(t, t.TempDir(), "--max-clients", "1")
	first, err := dialRedis(t.Context(), d.redis)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if reply, err := first.do("CONFIG GET maxclients"); err != nil || strings.Join(reply, " ") != "maxclients 1" {
		t.Errorf("CONFIG GET answered %q, %v", reply, err)
	}
	_, err = askRedis(d.redis, "PING")
	if err == nil || !strings.Contains(err.Error(), "ERR max number of clients reached") {
		t.Errorf("the second client got %v", err)
	}
}

func TestClientsLeaveFilesForTheStore(t *testing.T) {
	const gossip = 128
	for _, files := range []uint64{1024, 1500, 4096, 10_240, 16_384, 65_536, 1 << 20} {
		clients := roomForClients(files)
		if all := clients + min(files/4, maxPeerFiles) + httpapi.MaxConnections + gossip; clients < 100 || all+200 > files {
			t.Errorf("%d clients are admitted with %d files: all connections may take %d", clients, files, all)
		}
	}
	if roomForClients(65_536) < resp.DefaultMaxClients {
		t.Error("the files that the service may open are too few for the clients that it admits")
	}
	d := &daemon{log: slog.New(slog.DiscardHandler)}
	if n := d.clientsWithFiles(1); n != 1 {
		t.Errorf("%d clients are admitted, want 1", n)
	}
}
