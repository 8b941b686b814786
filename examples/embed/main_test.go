package main

import (
	"context"
	"os"
)

// The second run in one directory goes on where the first one ended.
func Example() {
	dir, err := os.MkdirTemp("", "peerd-embed-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	for range 2 {
		if err := run(context.Background(), os.Stdout, dir); err != nil {
			panic(err)
		}
	}
	// Output:
	// changed: [user:ann]
	// ann: mail ann@example.com, groups [staff], visits 1
	// changed: [user:ann]
	// ann: mail ann@example.com, groups [staff], visits 2
}
