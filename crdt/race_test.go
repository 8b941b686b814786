//go:build race

package crdt

// raceEnabled makes the tests that draw many histories draw fewer.
const raceEnabled = true
