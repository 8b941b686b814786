package resp

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	embedded "github.com/peerd/peerd/peer"
)

// redisVersion is the version of Redis whose commands are the model: some clients decide by it
// what to send.
const redisVersion = "7.0.0"

// infoSections are what INFO is made of, in its order. Each returns lines of a name, a colon and a
// value.
var infoSections = []struct {
	name  string
	lines func(c *call) (string, error)
	apart bool // it is shown to who asks for it, or for all
}{
	{"Server", (*call).infoServer, false},
	{"Clients", (*call).infoClients, false},
	{"Memory", (*call).infoMemory, false},
	{"Stats", (*call).infoStats, false},
	{"Replication", (*call).infoReplication, false},
	{"Commandstats", (*call).infoCommandStats, true},
	{"Errorstats", (*call).infoErrorStats, false},
	{"Keyspace", (*call).infoKeyspace, false},
}

func runInfo(c *call) error {
	var text strings.Builder
	for _, section := range infoSections {
		if !c.wantsSection(strings.ToLower(section.name), section.apart) {
			continue
		}
		lines, err := section.lines(c)
		if err != nil {
			return err
		}
		if text.Len() > 0 {
			text.WriteString("\r\n")
		}
		fmt.Fprintf(&text, "# %s\r\n%s", section.name, lines)
	}
	c.out.verbatim(text.String())
	return nil
}

func (c *call) wantsSection(name string, apart bool) bool {
	for i := 1; i < len(c.args); i++ {
		if c.is(i, name) || c.is(i, "all") || c.is(i, "everything") || !apart && c.is(i, "default") {
			return true
		}
	}
	return len(c.args) == 1 && !apart
}

func (c *call) infoServer() (string, error) {
	up := time.Since(c.server.started)
	return fmt.Sprintf("redis_version:%s\r\npeerd_version:%s\r\nredis_mode:standalone\r\n"+
		"os:%s\r\narch_bits:%d\r\nprocess_id:%d\r\nrun_id:%s\r\n"+
		"uptime_in_seconds:%d\r\nuptime_in_days:%d\r\n",
		redisVersion, c.server.config.Version, runtime.GOOS+" "+runtime.GOARCH, 32<<(^uint(0)>>63),
		os.Getpid(), c.server.runID, int(up.Seconds()), int(up.Hours()/24)), nil
}

func (c *call) infoClients() (string, error) {
	return fmt.Sprintf("connected_clients:%d\r\nmaxclients:%d\r\nblocked_clients:%d\r\n"+
		"tracking_clients:%d\r\n", c.server.clientCount(), c.server.maxClients.Load(),
		c.server.blockedCount(), c.server.tracking.counts().clients), nil
}

func (c *call) infoMemory() (string, error) {
	used, total := heapInUse()
	return fmt.Sprintf("used_memory:%d\r\nused_memory_rss:%d\r\nmaxmemory:0\r\n"+
		"maxmemory_policy:noeviction\r\nmem_allocator:go\r\nnumber_of_cached_scripts:%d\r\n",
		used, total, c.server.scripts.known()), nil
}

// statistics is what INFO counts, and CONFIG RESETSTAT begins again.
type statistics struct{ connections, commands, refused, evicted, unread int64 }

func (s *Server) statistics() statistics {
	counts := &s.counts
	refused := counts.refused.Load()
	return statistics{counts.clients.Load() + refused, counts.commands.Load(), refused,
		counts.evicted.Load(), counts.unread.Load()}
}

func (c *call) infoStats() (string, error) {
	now, before := c.server.statistics(), statistics{}
	if reset := c.server.since.Load(); reset != nil {
		before = *reset
	}
	_, errors := c.server.errors.all()
	tracked := c.server.tracking.counts()
	return fmt.Sprintf("total_connections_received:%d\r\ntotal_commands_processed:%d\r\n"+
		"rejected_connections:%d\r\nevicted_clients:%d\r\n"+
		"client_output_buffer_limit_disconnections:%d\r\n"+
		"tracking_total_keys:%d\r\ntracking_total_items:%d\r\ntracking_total_prefixes:%d\r\n"+
		"total_error_replies:%d\r\n",
		now.connections-before.connections, now.commands-before.commands, now.refused-before.refused,
		now.evicted-before.evicted, now.unread-before.unread,
		tracked.keys, tracked.items, tracked.prefixes, errors), nil
}

// infoReplication says what Redis's tools expect of a server that takes writes. Every peer is one.
func (c *call) infoReplication() (string, error) {
	return "role:master\r\nconnected_slaves:0\r\n", nil
}

func (c *call) infoKeyspace() (string, error) {
	if err := c.afterExpired(c.expiredCost(0)); err != nil {
		return "", err
	}
	var out strings.Builder
	for i := range Databases {
		n, expiring := 0, 0
		failed := c.inDatabase(i, func(tx *embedded.Tx) error {
			expired, rest := tx.Expired()
			n, expiring = tx.Len()-expired, rest
			return tx.Err()
		})
		if failed == nil && n > 0 {
			fmt.Fprintf(&out, "db%d:keys=%d,expires=%d,avg_ttl=0\r\n", i, n, expiring)
		}
	}
	return out.String(), nil
}

// inDatabase calls fn with a view of a database. It fails if that is not held here, or cannot be
// read now.
func (c *call) inDatabase(i int, fn func(*embedded.Tx) error) error {
	if i == c.session.index {
		return fn(c.tx)
	}
	db, err := c.server.database(i)
	if err == nil {
		err = db.View(context.Background(), fn)
	}
	return err
}

// expiredCost returns what it costs to find what has expired in all databases; beyond most it may be
// more.
func (c *call) expiredCost(most int) (sum int64) {
	for i := 0; i < Databases && sum <= int64(most); i++ {
		_ = c.inDatabase(i, func(tx *embedded.Tx) error {
			sum += int64(tx.ExpiredCost(most))
			return tx.Err()
		})
	}
	return sum
}

// workOfInfo is at least more than what the loop does itself.
func workOfInfo(c *call, _ *command) int64 {
	work := int64(quickWork + 1)
	if c.wantsSection("keyspace", false) {
		work += c.expiredCost(c.mostWork())
	}
	return work
}
