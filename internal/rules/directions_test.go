package rules

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// layer says which packages of the module a package may import. Arrows point down only: what is
// not listed is forbidden, and siblings do not know each other. Patterns as in path.Match.
type layer struct {
	pkg    string
	below  []string
	reason string
}

var layers = []layer{
	{"internal/wire", nil,
		"the format's primitives stand below everything"},
	{"internal/golden", nil,
		"files that pin formats, for tests: no program may import it"},
	{"internal/latency", nil,
		"it counts durations, whatever took them"},
	{"internal/beat", nil,
		"it knows moments, and not what is done at them"},
	{"internal/words", nil,
		"it reads the texts of errors, whoever made them"},
	{"internal/script", nil,
		"it runs scripts for whoever executes their commands, and knows no keys or connections"},
	{"internal/secret", nil,
		"keys know nothing of the data they protect"},
	{"internal/auth", []string{"internal/secret"},
		"who a client is has nothing to do with what it asks, or over which protocol"},
	{"internal/auth/authtest", []string{"internal/auth"},
		"files for tests: no program may import it"},
	{"internal/dotted", []string{"internal/wire"},
		"cells are what everything else is made of: they know no types, deltas or stores"},
	{"crdt", []string{"internal/dotted", "internal/wire"},
		"the types and the algebra are pure values, usable without a store or a network"},
	{"internal/delta", []string{"crdt", "internal/dotted", "internal/wire"},
		"what replicas say to each other knows neither who carries it nor who keeps it"},
	{"store", nil,
		"the storage contract knows records and nothing of what they mean"},
	{"store/space", []string{"store", "internal/wire"}, "what divides a store knows nothing of cells or deltas"},
	{"store/segment", []string{"store", "internal/wire"},
		"the log's frames are its own: what the records hold is its owner's affair"},
	{"store/*", []string{"store", "internal/wire"},
		"a store implements the contract, and knows nothing of its user or of other stores"},
	{"gossip", []string{"crdt", "internal/delta", "internal/dotted", "internal/wire"},
		"dissemination knows deltas and neighbours, and leaves storage and repair to its siblings"},
	{"gossip/members", []string{"internal/beat", "internal/wire"},
		"membership carries no user data: it need not know what data is"},
	{"antientropy", []string{"crdt", "internal/delta", "internal/dotted", "internal/wire"},
		"sync sessions compare what they are handed, and know neither stores nor gossip"},
	{"internal/engine/hot", []string{"store"},
		"what memory keeps of a tree knows versions of records, and not what they mean"},
	{"internal/engine", []string{"antientropy", "crdt", "gossip", "internal/delta", "internal/dotted",
		"internal/engine/health", "internal/engine/hot", "internal/engine/logindex", "internal/engine/order",
		"internal/wire", "store"},
		"the core ties its parts together through their contracts, never to one implementation"},
	{"internal/engine/health", []string{"crdt", "gossip"},
		"what becomes of damage is decided by contexts and what neighbours said, without cells and stores"},
	{"internal/engine/logindex", []string{"crdt", "internal/wire", "store"},
		"the log's index knows numbers, dots and positions, and no engine"},
	{"internal/engine/order", nil, "keys in their order know nodes that are read and written, and not by whom"},
	{"internal/backup", []string{"crdt", "internal/dotted", "internal/wire", "store"},
		"the format of a backup knows records and nothing of what they mean"},
	{"peer", []string{"antientropy", "crdt", "gossip", "gossip/members", "internal/backup", "internal/beat",
		"internal/delta", "internal/dotted", "internal/latency", "internal/engine", "internal/secret", "internal/wire", "store",
		"store/badger", "store/mem", "store/segment", "store/space", "internal/words"},
		"the shell runs the core over a real network and disk; front-ends are above it"},
	{"api/*", []string{"crdt", "internal/auth", "internal/beat", "internal/latency", "internal/script", "internal/words",
		"peer"},
		"a front-end speaks a protocol over the database, and reaches nothing beneath it"},
	{"cmd/peerd", []string{"api/*", "crdt", "internal/auth", "internal/words", "peer", "store"},
		"the daemon is flags, configuration and signals; of what is deep it knows only the storage " +
			"contract's errors, to tell people what to do"},
	{"internal/sim", []string{"antientropy", "crdt", "gossip", "internal/delta", "internal/dotted", "internal/engine",
		"store", "store/mem", "store/space"},
		"the simulator runs the core that ships, over a network, disks and clocks of its own"},
	{"cmd/peersim", []string{"internal/sim"},
		"the simulator's command line knows worlds from outside"},
	{"examples/*", []string{"crdt", "peer"},
		"examples show what a user can write, so they import what a user can"},
	{"bench", []string{"bench/internal/*"},
		"the harness' command line chooses what is measured"},
	{"bench/internal/measure", nil,
		"the harness' arithmetic does not know what it counts"},
	{"bench/internal/spread", []string{"bench/internal/lab"},
		"an experiment does not know which system it is of"},
	{"bench/internal/member", nil,
		"a member of a rival's cluster is the rival's alone"},
	{"bench/spreader", []string{"bench/internal/lab", "bench/internal/spread"},
		"it puts systems into the experiment that are not in one program with others"},
	{"bench/internal/compare", nil,
		"it runs the benchmarks of commits, whatever they are"},
	{"bench/internal/report", []string{"bench/internal/measure"},
		"a report is of whatever was measured"},
	{"bench/internal/mesh", []string{"crdt", "gossip", "internal/delta", "internal/dotted"},
		"it simulates dissemination alone"},
	{"bench/internal/theory", []string{"bench/internal/measure", "bench/internal/report", "crdt"},
		"what is predicted is simulated without what it predicts, but for its version vectors"},
	{"bench/internal/lab", []string{"bench/internal/measure"},
		"what starts the daemon knows it from outside, as its users do"},
	{"bench/internal/bounds", []string{"bench/internal/*"},
		"what measures the daemon knows it from outside, as its users do"},
	{"bench/internal/scenario", []string{"bench/internal/*", "crdt", "antientropy", "gossip", "internal/delta", "internal/dotted",
		"internal/engine", "peer", "store", "store/mem"},
		"it measures parts of the project beside others that do the same"},
	{"internal/e2e", nil,
		"the end-to-end test knows the daemon from outside, as its users do"},
	{"internal/e2e/console", nil,
		"the console's test knows daemon and page from outside, as who looks at them does"},
	{"internal/e2e/clients", nil,
		"clients of Redis know the daemon from outside"},
	{"internal/rules", nil,
		"the rules read source and run nothing"},
}

func layerOf(pkg string) *layer {
	for i, l := range layers {
		if ok, _ := path.Match(l.pkg, pkg); ok {
			return &layers[i]
		}
	}
	return nil
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, pkg)
		return ok
	})
}

func checkDirections(s *source) (problems []string) {
	own := layerOf(s.pkg())
	if own == nil {
		return []string{fmt.Sprintf("%s: package %s has no row in layers: say what it may import "+
			"and why (internal/rules/directions_test.go)", s.path, s.pkg())}
	}
	if s.isTest() {
		return nil // a test may put a package together with any that it works with
	}
	for name, at := range s.imports() {
		imported, ok := strings.CutPrefix(name, module+"/")
		if ok && !matchesAny(own.below, imported) {
			problems = append(problems, fmt.Sprintf("%s: %s must not import %s: %s",
				at, s.pkg(), imported, own.reason))
		}
	}
	return problems
}

func TestImportsPointDownOnly(t *testing.T) {
	each(t, checkDirections)
	breaks(t, checkDirections, "gossip/mesh.go",
		"package gossip\n"+`import _ "github.com/peerd/peerd/crdt"`,
		"package gossip\n"+`import _ "github.com/peerd/peerd/antientropy"`,
		"package gossip\n"+`import _ "github.com/peerd/peerd/internal/engine"`)
	breaks(t, checkDirections, "crdt/state.go",
		"package crdt\n"+`import _ "github.com/peerd/peerd/internal/dotted"`,
		"package crdt\n"+`import _ "github.com/peerd/peerd/internal/delta"`,
		"package crdt\n"+`import _ "github.com/peerd/peerd/store"`)
	breaks(t, checkDirections, "peer/peer.go", "package peer",
		"package peer\n"+`import _ "github.com/peerd/peerd/api/resp"`)
	breaks(t, checkDirections, "store/segment/log.go",
		"package segment\n"+`import _ "github.com/peerd/peerd/store"`,
		"package segment\n"+`import _ "github.com/peerd/peerd/internal/delta"`,
		"package segment\n"+`import _ "github.com/peerd/peerd/store/mem"`)
	if layerOf("common") != nil {
		t.Error("a package that nobody placed has a layer")
	}
}

// owner says which packages may import a dependency, in code that is no test.
type owner struct {
	dependency string   // a prefix of import paths
	pkgs       []string // patterns
	reason     string
}

var owners = []owner{
	{"github.com/dgraph-io/badger", []string{"store/badger"}, "another store could take its place"},
	{"google.golang.org/protobuf", []string{"store/badger"}, "it reads Badger's own files"},
	{"github.com/libp2p/go-libp2p/gologshim", []string{"cmd/peerd"}, "libp2p's log goes where the daemon's does"},
	{"github.com/libp2p/go-libp2p", []string{"peer"}, "streams are the shell's business"},
	{"github.com/quic-go/quic-go", []string{"peer"}, "the names of the keys that libp2p's QUIC takes"},
	{"github.com/multiformats/go-multiaddr", []string{"peer"}, "libp2p's addresses stay with it"},
	{"github.com/multiformats/go-multistream", []string{"peer"}, "its error for streams that nobody serves"},
	{"github.com/hashicorp/memberlist", []string{"gossip/members"}, "membership is its business"},
	{"github.com/vmihailenco/msgpack", []string{"internal/wire"},
		"its own decoders trust their input: everything goes through internal/wire's bounds"},
	{"github.com/yuin/gopher-lua", []string{"internal/script"}, "scripts are bounded there, and another machine could take its place"},
	{"github.com/tidwall/btree", []string{"crdt", "store/mem", "internal/engine", "internal/engine/hot"},
		"ordered cells and records in memory"},
	{"github.com/cespare/xxhash", []string{"internal/engine/hot"}, "a hash that is the same in each run of a seed"},
	{"github.com/klauspost/compress", []string{"internal/backup"}, "nothing else is compressed"},
	{"github.com/spf13/cobra", []string{"cmd/peerd"}, "the command line is the daemon's"},
	{"github.com/spf13/pflag", []string{"cmd/peerd"}, "settings are the daemon's"},
	{"github.com/goccy/go-yaml", []string{"cmd/peerd"}, "settings are the daemon's"},
	{"github.com/agnivade/levenshtein", []string{"cmd/peerd"}, "it names the nearest setting"},
	{"github.com/dustin/go-humanize", []string{"cmd/peerd"}, "people write sizes, programs bytes"},
	{"github.com/prometheus/client_golang", []string{"api/metrics"}, "figures get their form there"},
	{"golang.org/x/sync", []string{"cmd/peerd"}, "the daemon waits for its servers with it"},
	{"golang.org/x/net", []string{"api/*"}, "its connection limit is for servers"},
	{"golang.org/x/sys", []string{"store/badger", "peer", "api/*", "cmd/peerd"},
		"only what touches the operating system calls it"},
	{"pgregory.net/rapid", []string{"store/storetest"}, "a library for tests"},
	{"github.com/google/go-cmp", []string{"internal/golden", "store/storetest"}, "a library for tests"},
	{"github.com/cockroachdb/datadriven", nil, "a library for tests alone: internal/engine's scripts"},
}

func checkOwners(s *source) (problems []string) {
	if s.isTest() || strings.HasPrefix(s.path, "bench/") {
		return nil // the harness is a module of its own, whose dependencies are the rivals
	}
	for name, at := range s.imports() {
		first, _, _ := strings.Cut(name, "/")
		if !strings.Contains(first, ".") || name == module || strings.HasPrefix(name, module+"/") {
			continue // the standard library, or ours
		}
		i := slices.IndexFunc(owners, func(o owner) bool { return strings.HasPrefix(name, o.dependency) })
		switch {
		case i < 0:
			problems = append(problems, fmt.Sprintf("%s: %s has no row in owners: say who may use it "+
				"and why (internal/rules/directions_test.go)", at, name))
		case !matchesAny(owners[i].pkgs, s.pkg()):
			problems = append(problems, fmt.Sprintf("%s: %s may be imported by %s only: %s",
				at, name, strings.Join(owners[i].pkgs, ", "), owners[i].reason))
		}
	}
	return problems
}

func TestEachDependencyStaysWithItsOwner(t *testing.T) {
	each(t, checkOwners)
	breaks(t, checkOwners, "peer/peer.go",
		"package peer\n"+`import _ "github.com/libp2p/go-libp2p/core/host"`,
		"package peer\n"+`import _ "github.com/dgraph-io/badger/v4"`,
		"package peer\n"+`import _ "github.com/someone/something"`)
}
