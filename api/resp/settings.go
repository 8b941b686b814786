package resp

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// defaultSettings are the parameters of Redis that clients and tools ask for, as they hold here.
func defaultSettings() map[string]string {
	return map[string]string{
		"appendonly":         "yes",
		"appendfsync":        "everysec",
		"databases":          strconv.Itoa(Databases),
		"maxmemory":          "0",
		"maxmemory-policy":   "noeviction",
		"proto-max-bulk-len": strconv.Itoa(MaxValue),
		"save":               "",
		"tcp-keepalive":      "15",
		"timeout":            "0",
		"cluster-enabled":    "no",
		"requirepass":        "",
		"daemonize":          "no",
		"replicaof":          "",
		"slaveof":            "",
		"maxmemory-samples":  "5",
		"maxmemory-clients":  strconv.Itoa(MaxHeld),
		"slowlog-max-len":    strconv.Itoa(MaxSlowLog),

		"tracking-table-max-keys": strconv.Itoa(MaxTracked),
	}
}

const (
	settingClients = "maxclients"
	settingSlow    = "slowlog-log-slower-than"
	settingBusy    = "busy-reply-threshold"
	settingBusyOld = "lua-time-limit" // its name before Redis 7
	settingEvents  = "notify-keyspace-events"
)

// settings returns all parameters as they are now.
func (s *Server) settings() map[string]string {
	all := maps.Clone(s.config.Settings)
	all[settingClients] = strconv.FormatInt(s.maxClients.Load(), 10)
	all[settingEvents] = s.notify.text()
	all[settingSlow] = strconv.FormatInt(s.slower.Load(), 10)
	s.encodings.add(all)
	all[settingBusy] = strconv.FormatInt(s.scripts.busyAfter.Load(), 10)
	all[settingBusyOld] = all[settingBusy]
	all["bind"], all["port"] = s.listensAt()
	return all
}

// listensAt returns the addresses at which clients are taken, and the port of the first.
func (s *Server) listensAt() (hosts, port string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		host, at, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			continue // of no network that has ports
		}
		if hosts += " " + host; port == "" {
			port = at
		}
	}
	return strings.TrimSpace(hosts), port
}

func runConfigGet(c *call) error {
	settings := c.server.settings()
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
		if c.is(i, name) || matchGlob(strings.ToLower(pattern), name) {
			return true, nil
		}
	}
	return false, nil
}

// runConfigSet changes what can change while the server runs, until it ends: how many clients there
// may be, what is slow, when others are told that a script is, of which events clients are told, and
// what encodingSettings has. Others may be set to what they are. All are changed, or none.
func runConfigSet(c *call) error {
	if len(c.args)%2 != 0 {
		return errSyntax
	}
	settings, wanted := c.server.settings(), map[string]string{}
	for i := 2; i < len(c.args); i += 2 {
		name := strings.ToLower(c.arg(i))
		if _, known := settings[name]; !known {
			return replyError(fmt.Sprintf("ERR Unknown option or number of arguments for CONFIG SET - '%s'",
				clip(c.args[i], 128)))
		}
		if _, twice := wanted[name]; twice {
			return cannotSet(name, "duplicate parameter")
		}
		wanted[name] = c.arg(i + 1)
	}
	changes := map[string]int64{}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		switch _, encoding := encodingSettings[name]; {
		case encoding:
			if err := checkEncoding(name, wanted[name]); err != nil {
				return err
			}
		case name == settingClients || name == settingSlow || name == settingBusy || name == settingBusyOld:
			n, err := numberFor(name, wanted[name], c.server.config.MaxClients)
			if err != nil {
				return err
			}
			changes[name] = n
		case name == settingEvents:
			if err := checkEvents(wanted[name]); err != nil {
				return err
			}
		case !strings.EqualFold(wanted[name], settings[name]):
			return cannotSet(name, "can't set immutable config")
		}
	}
	c.server.encodings.set(wanted)
	if n, ok := changes[settingClients]; ok {
		c.server.maxClients.Store(n)
	}
	if n, ok := changes[settingSlow]; ok {
		c.server.slower.Store(n)
	}
	for _, name := range []string{settingBusy, settingBusyOld} {
		if n, ok := changes[name]; ok {
			c.server.scripts.busyAfter.Store(n)
		}
	}
	if classes, ok := wanted[settingEvents]; ok {
		c.server.notify.set(classes)
	}
	c.out.status("OK")
	return nil
}

func cannotSet(name, why string) error {
	return replyError(fmt.Sprintf("ERR CONFIG SET failed (possibly related to argument '%s') - %s", name, why))
}

// numberFor reads the value of a parameter that can be changed. There can be no more clients than
// when the server began: their files would be wanting elsewhere.
func numberFor(name, text string, clients int) (int64, error) {
	least, most := int64(1), int64(1<<32-1)
	switch name {
	case settingSlow:
		least, most = -1, int64(1<<63-1)
	case settingBusy, settingBusyOld:
		least, most = 0, MaxScriptTime.Milliseconds()
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return 0, cannotSet(name, "argument couldn't be parsed into an integer")
	case n < least || n > most:
		return 0, cannotSet(name, fmt.Sprintf("argument must be between %d and %d inclusive", least, most))
	case name == settingClients && n > int64(clients):
		return 0, cannotSet(name, fmt.Sprintf("The operating system is not able to handle the specified number of clients, "+
			"try with %d", clients))
	}
	return n, nil
}

// runConfigResetStat has INFO count from now on. Metrics go on.
func runConfigResetStat(c *call) error {
	c.server.resetStatistics()
	c.out.status("OK")
	return nil
}

func runConfigRewrite(*call) error {
	return replyError("ERR CONFIG REWRITE is not possible: peerd writes no configuration file, what lasts is set there")
}
