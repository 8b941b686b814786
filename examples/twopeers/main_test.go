package main

import (
	"context"
	"os"
)

func Example() {
	if err := run(context.Background(), os.Stdout); err != nil {
		panic(err)
	}
	// Output:
	// cut off from each other, both take writes:
	//   a: visits 3, colors [red]
	//   b: visits 4, colors [blue]
	// healed, both hold the same:
	//   a: visits 7, colors [blue red]
	//   b: visits 7, colors [blue red]
}
