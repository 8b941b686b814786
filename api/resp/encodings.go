package resp

import (
	"maps"
	"strconv"
	"sync"
)

// encodingSettings are the parameters of Redis that say how it packs values in memory, with its
// defaults. Programs set them, and tests of clients; here they are remembered and change nothing
// but at how many entries XTRIM goes on.
var encodingSettings = map[string]string{
	"hash-max-listpack-entries": "128",
	"hash-max-listpack-value":   "64",
	"hash-max-ziplist-entries":  "128",
	"hash-max-ziplist-value":    "64",
	"hll-sparse-max-bytes":      "3000",
	"list-compress-depth":       "0",
	"list-max-listpack-size":    "-2",
	"list-max-ziplist-size":     "-2",
	"set-max-intset-entries":    "512",
	"stream-node-max-bytes":     "4096",
	settingNode:                 strconv.Itoa(streamNode),
	"zset-max-listpack-entries": "128",
	"zset-max-listpack-value":   "64",
	"zset-max-ziplist-entries":  "128",
	"zset-max-ziplist-value":    "64",
}

// encodings are those settings, as somebody may have changed them.
type encodings struct {
	mu      sync.Mutex
	changed map[string]string
}

// add adds them to all settings.
func (e *encodings) add(all map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.Copy(all, encodingSettings)
	maps.Copy(all, e.changed)
}

// number returns the value of one of them.
func (e *encodings) number(name string) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	text, ok := e.changed[name]
	if !ok {
		text = encodingSettings[name]
	}
	n, _ := strconv.ParseInt(text, 10, 64) // see checkEncoding
	return n
}

// checkEncoding returns an error unless a setting can have a value.
func checkEncoding(name, value string) error {
	if _, err := strconv.ParseInt(value, 10, 64); err != nil {
		return cannotSet(name, "argument couldn't be parsed into an integer")
	}
	return nil
}

// set takes those of some settings that are of encodings.
func (e *encodings) set(wanted map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, value := range wanted {
		if _, ok := encodingSettings[name]; !ok {
			continue
		}
		if e.changed == nil {
			e.changed = map[string]string{}
		}
		e.changed[name] = value
	}
}
