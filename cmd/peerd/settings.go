package main

import (
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/peerd/peerd/api/resp"
	"github.com/peerd/peerd/peer"
)

const (
	defaultDir = "./peerd-data"
	// minDeltaLog and minDeltaAge are the least that a log of deltas may be bounded to: with less,
	// every pause of a neighbour would end in a repair.
	minDeltaLog = 1 << 20
	// minCache is the least that the cache may have: a space has as much.
	minCache    = 1 << 20
	minDeltaAge = time.Minute
	// minSkew is the least that clocks may be off: messages take about that long.
	minSkew = time.Millisecond
	// defaultSlowLog is far above what a command takes on a disk that is well.
	defaultSlowLog = 100 * time.Millisecond
)

// options are what "peerd run" can be told: what a daemon is opened with, and what is this
// program's own.
type options struct {
	settings
	logLevel  string
	logFormat string
	cutFile   string
}

// Annotations of flags in the table.
const (
	reloads = "reloads" // SIGHUP takes over a change: of the setting, or of the file that it names
	unset   = "unset"   // what stands for an empty value

	ofSetting = "yes"
	ofFile    = "its content"
)

// table defines the settings. Each is, from its one entry here, a flag of "peerd run", a key of
// the YAML file, a variable PEERD_… of the environment, a line of "peerd config", and a row of
// the table in docs/operations.md. Hidden ones are for tests, and flags only.
//
// A new setting is one entry. If SIGHUP can change it, it is annotated so, and daemon.reload
// takes it over.
func (o *options) table() *pflag.FlagSet {
	t := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	t.SortFlags = false
	p := &o.peer
	t.StringVar(&p.Dir, "dir", defaultDir, "`directory` for data and keys")
	t.StringVar(&p.ClusterKey, "cluster-key", "", "`file` with the cluster's secret, which the directory keeps from the first start on")
	t.StringSliceVar(&p.Join, "join", nil, "gossip `addresses` of other peers, host:port,…; without a port 7946")
	t.StringSliceVar(&p.Allow, "allow", nil,
		"`ids` of the only peers to let in, of those that hold the cluster's key; none lets in all")
	t.StringSliceVar(&p.Spaces, "spaces", nil,
		"`names` of the only spaces to take part in, also default if it is wanted; none stands for all")
	t.StringVar(&p.Name, "name", "", "a `label` for people, may repeat")
	t.StringVar(&p.Gossip, "gossip", "[::]:7946", "`ip:port` for membership, TCP and UDP; [::] is all addresses")
	t.StringVar(&p.P2P, "p2p", "[::]:7947", "`ip:port` for data between peers, TCP and QUIC")
	t.StringVar(&p.Advertise, "advertise", "", "`ip` or name at which other hosts reach this one")
	t.StringVar(&o.resp, "resp", "127.0.0.1:6379", "`ip:port` for Redis clients, or off; beyond loopback only with a "+
		"password file or a TLS authority")
	t.StringVar(&o.http, "http", defaultHTTP, "`ip:port` for HTTP, or off; beyond loopback as for resp")
	t.StringVar(&o.passwordFile, "password-file", "",
		"`file` with the passwords of clients, a line each; the first is the one that commands send")
	t.StringVar(&o.tls.Cert, "tls-cert", "", "`file` with the certificate for clients, PEM")
	t.StringVar(&o.tls.Key, "tls-key", "", "`file` with the certificate's key, PEM")
	t.StringVar(&o.tls.CA, "tls-ca", "", "`file` with the authority whose certificates clients must show, PEM")
	t.Var(countValue(&o.maxClients, resp.DefaultMaxClients), "max-clients",
		"how many Redis clients are served at once; one more gets an error")
	t.Var(choiceValue(&p.Durability, peer.Interval, peer.Always, peer.Interval, peer.None), "durability",
		"when a write survives a power failure: always, interval (a second) or none")
	t.Var(durationValue(&p.PushDelay, 0, 0), "push-delay",
		"how long a write waits for others that go along to the other peers; 0s sends each at once")
	t.Var(sizeValue(&p.LogBytes, 256<<20, minDeltaLog), "delta-log-size",
		"how many bytes of deltas are kept for peers that were away; one away for longer is repaired, which costs more")
	t.Var(durationValue(&p.LogAge, 7*24*time.Hour, minDeltaAge), "delta-log-age",
		"how long deltas are kept for peers that were away")
	t.Var(sizeValue(&p.CacheBytes, peer.DefaultCacheBytes, minCache), "cache-size",
		"how much memory is for data that was read or written last; what is beyond is read from the disk")
	t.Var(sizeValue(&p.MinFree, 0, 0), "min-free",
		"what must stay free on the disk, or writes are refused; 0 is 5% of it, 1GiB at most")
	t.Var(durationValue(&p.MaxSkew, peer.DefaultMaxSkew, minSkew), "max-skew",
		"by how much another host's clock may be off before it is named and not adopted")
	t.Var(durationValue(&p.ReadyWait, peer.DefaultReadyWait, time.Millisecond), "ready-wait",
		"how long a restarted peer waits for what the others had, before it is ready without")
	t.Var(durationValue(&o.slowLog, defaultSlowLog, 0), "slow-log",
		"how long a command or request may take before it is logged as slow; 0s logs none")
	t.Var(neverValue(&p.ForgetAfter, peer.DefaultForgetAfter), "forget-after",
		"how long a member that is away is looked for and waited for; 0s is for ever")
	t.StringVar(&o.pprofSocket, "pprof-socket", "", "`file` of a unix socket to serve Go's profiles on")
	t.Var(choiceValue(&o.logLevel, "info", "debug", "info", "warn", "error"), "log-level",
		"the least level that is logged: debug, info, warn or error")
	t.Var(choiceValue(&o.logFormat, "text", "text", "json"), "log-format", "format of the log: text or json")
	t.StringVar(&o.cutFile, "cut-file", "", "block the gossip addresses in this `file`")
	t.BoolVar(&p.FastGossip, "fast-gossip", false, "notice changes of membership faster")

	annotate(t, unset, map[string]string{
		"cluster-key":   "cluster.key in the directory",
		"name":          "the host's name",
		"advertise":     "that of the route to hosts to join, else of the default route",
		"password-file": "clients need no password",
		"tls-cert":      "no TLS",
		"tls-ca":        "clients need no certificate",
	})
	annotate(t, reloads, map[string]string{
		"join": ofSetting, "delta-log-size": ofSetting, "delta-log-age": ofSetting, "cache-size": ofSetting,
		"min-free": ofSetting, "max-skew": ofSetting, "log-level": ofSetting,
		"password-file": ofFile, "tls-cert": ofFile, "tls-key": ofFile, "tls-ca": ofFile,
	})
	for _, forTests := range []string{"cut-file", "fast-gossip"} {
		t.Lookup(forTests).Hidden = true
	}
	return t
}

// annotate adds one annotation to several flags. What stands for an empty value is also part of the
// flag's help.
func annotate(t *pflag.FlagSet, annotation string, of map[string]string) {
	for name, text := range of {
		_ = t.SetAnnotation(name, annotation, []string{text}) // the flag is there: see table
		if annotation == unset {
			t.Lookup(name).Usage += " (default " + text + ")"
		}
	}
}

// reloadOf says what SIGHUP changes of a setting: ofSetting, ofFile or nothing.
func reloadOf(f *pflag.Flag) string { return strings.Join(f.Annotations[reloads], "") }

// variable returns the name of a setting's environment variable.
func variable(name string) string {
	return "PEERD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// level returns what logLevel names.
func (o *options) level() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(o.logLevel)) // the table admits only levels
	return level
}
