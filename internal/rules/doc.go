// Package rules holds what this project has decided about its own source and a program can check:
// which package may import which, which packages do no I/O, how long functions, files and lines
// are, which names and calls are not used, and that what is exported is documented. There is no
// code here, only tests that read the source of the whole module:
//
//	go test ./internal/rules
//
// A failure names the place, the rule, and the rule's reason. The rules are tables at the top of
// each file: directions_test.go, purity_test.go, house_test.go. Whoever needs an exception adds it
// to a table with its reason, where a reviewer sees it. Each check is itself tested on a few lines
// of source that break it.
package rules
