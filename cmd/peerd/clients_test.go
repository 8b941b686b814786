package main

import (
	"log/slog"
	"strings"
	"testing"
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
	files, known := openFiles()
	if !known || files > maxCount {
		t.Skip("files are not limited here")
	}
	d := &daemon{log: slog.New(slog.DiscardHandler)}
	if n := d.clientsWithFiles(maxCount); n < 1 || uint64(n) >= files {
		t.Errorf("%d clients are admitted with %d files", n, files)
	}
	if n := d.clientsWithFiles(1); n != 1 {
		t.Errorf("%d clients are admitted, want 1", n)
	}
}
