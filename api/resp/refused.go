package resp

import (
	"fmt"
	"slices"
	"strings"
)

// refusals are commands of Redis that peerd has not, each with the reason: what a client is told.
// Those for later are to come; others cannot mean here what they mean there.
var refusals = map[string]string{
	"latency":  "is for later: see SLOWLOG, and the metrics over HTTP",
	"fcall":    "is for later",
	"fcall_ro": "is for later",
	"monitor":  "is refused, as it would show every client what all others write: see SLOWLOG, and the metrics over HTTP",
	"lolwut":   "is not needed: INFO tells the version",
	"swapdb": "is not possible: databases are spaces, which are replicated each on its own and cannot change places " +
		"everywhere at once",
	"move":         "is not possible: a transaction is of one database",
	"migrate":      "is not possible: a host joins by an invitation, and has everything then",
	"debug":        "is not possible: it does to a server what none should have done to it",
	"save":         "is not needed: every write is logged; for a copy see peerd backup",
	"bgsave":       "is not needed: every write is logged; for a copy see peerd backup",
	"bgrewriteaof": "is not needed: logs are cut as hosts have what is in them",
	"lastsave":     "is not possible: every write is logged",
	"shutdown":     "is not possible over Redis: stop the daemon with SIGTERM",
	"module":       "is not possible: there are no modules",
	"replicaof":    noReplicas,
	"slaveof":      noReplicas,
	"failover":     noReplicas,
	"pfdebug":      "is not needed: how registers are kept is not Redis's",
	"pfselftest":   "is not needed: tests of peerd do it",
	"psync":        noReplicas,
	"sync":         noReplicas,
	"replconf":     noReplicas,
	"waitaof":      "is of Redis 7.2: see WAIT, which counts peers that hold writes durably, and --durability",
}

const noReplicas = "is not possible: every peer takes writes, and a host joins by an invitation"

// notClustered are commands that Redis refuses in one word if it is not a cluster of slots.
var notClustered = []string{"cluster", "readonly", "readwrite", "asking"}

// unknownSubcommand returns the error of a subcommand that a command has not.
func unknownSubcommand(name string, sub []byte) error {
	switch {
	case name == "function" && slices.Contains(laterFunctions, strings.ToLower(string(sub))):
		return replyError("ERR FUNCTION has FLUSH and LIST, for there are no functions: the rest is for later")
	case name == "acl":
		return replyError("ERR ACL has WHOAMI and USERS, for there is one user: the rest is for later")
	}
	return replyError(fmt.Sprintf("ERR unknown subcommand '%s'. Try %s HELP.", clip(sub, 128), strings.ToUpper(name)))
}

// refusal returns why a command of Redis is not here, nil if it is none.
func refusal(name string) error {
	if why, ok := refusals[name]; ok {
		return replyError("ERR " + strings.ToUpper(name) + " " + why)
	}
	if slices.Contains(notClustered, name) {
		return replyError("ERR This instance has cluster support disabled")
	}
	return nil
}
