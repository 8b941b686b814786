package resp

import (
	"maps"
	"slices"
	"strconv"
)

// defaultSettings are the parameters of Redis that clients and tools ask for, as they hold here.
func defaultSettings(c Config) map[string]string {
	return map[string]string{
		"appendonly":              "yes",
		"appendfsync":             "everysec",
		"databases":               strconv.Itoa(Databases),
		"maxclients":              strconv.Itoa(c.MaxClients),
		"maxmemory":               "0",
		"maxmemory-policy":        "noeviction",
		"proto-max-bulk-len":      strconv.Itoa(MaxValue),
		"save":                    "",
		"tcp-keepalive":           "15",
		"timeout":                 "0",
		"cluster-enabled":         "no",
		"notify-keyspace-events":  "AKE",
		"requirepass":             "",
		"slowlog-log-slower-than": slowerThan(c.SlowLog),
		"slowlog-max-len":         strconv.Itoa(MaxSlowLog),
	}
}

func runConfigGet(c *call) error {
	settings := c.server.config.Settings
	at, n := len(c.out.buf), 0
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		wanted, err := c.matchesAny(name)
		if err != nil {
			return err
		}
		if wanted {
			c.out.text(name)
			c.out.text(settings[name])
			n++
		}
	}
	c.out.dictAt(at, n)
	return nil
}

// matchesAny reports whether one of CONFIG GET's patterns stands for the setting.
func (c *call) matchesAny(name string) (bool, error) {
	for i := 2; i < len(c.args); i++ {
		pattern, err := c.pattern(i)
		if err != nil {
			return false, err
		}
		if c.is(i, name) || matchGlob(pattern, name) {
			return true, nil
		}
	}
	return false, nil
}
