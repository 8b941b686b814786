package sim

import (
	"fmt"
	"strings"
	"time"
)

// Fault is a kind of fault.
type Fault int

// Kinds of fault.
const (
	Loss Fault = iota
	Duplication
	Reordering
	Delay
	Corruption
	Reset
	Partition
	OneWay
	Flapping
	Alone
	Kill
	PowerFailure
	Torn
	Restart
	Pause
	SlowDisk
	FullDisk
	ScarceDisk
	ReadError
	FsyncError
	BitFlip
	OldBackup
	Image
	Copy
	DiskLoss
	ClockAhead
	ClockBehind
	ClockJump
	ClockStill
	Join
	Leave
	ComeBack
	Subscribe
	Drop
	faultKinds
)

var faultNames = [faultKinds]string{
	"loss", "duplication", "reordering", "delay", "corruption", "reset",
	"partition", "one-way", "flapping", "alone",
	"kill", "power-failure", "torn", "restart", "pause",
	"slow-disk", "full-disk", "scarce-disk", "read-error", "fsync-error", "bit-flip",
	"old-backup", "image", "copy", "disk-loss",
	"clock-ahead", "clock-behind", "clock-jump", "clock-still",
	"join", "leave", "come-back", "subscribe", "drop",
}

// String returns the name of the fault.
func (f Fault) String() string { return faultNames[f] }

// Totals counts what happened in worlds.
type Totals struct {
	Worlds     int
	Time       time.Duration // simulated
	Events     int
	Operations int // transactions that were acknowledged
	Expired    int // keys that were removed since they had expired
	Reads      int // that were compared with the oracle
	Messages   int // that arrived
	Repairs    int // that were completed
	Rebuilds   int // that were completed
	Bases      int // ids of which bases were said
	Secured    int // times that a host was told what another one holds
	Handed     int // copies that were given up as others had all of them
	Judged     int // times that a host found its clock to be off otherwise than before
	Faults     [faultKinds]int
	Violations int
}

// Add adds the counts of o.
func (t *Totals) Add(o Totals) {
	t.Worlds += o.Worlds
	t.Time += o.Time
	t.Events += o.Events
	t.Operations += o.Operations
	t.Expired += o.Expired
	t.Reads += o.Reads
	t.Messages += o.Messages
	t.Repairs += o.Repairs
	t.Rebuilds += o.Rebuilds
	t.Bases += o.Bases
	t.Secured += o.Secured
	t.Handed += o.Handed
	t.Judged += o.Judged
	for i, n := range o.Faults {
		t.Faults[i] += n
	}
	t.Violations += o.Violations
}

// String returns the totals as one line.
func (t Totals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "worlds=%d hours=%.2f events=%d operations=%d reads=%d messages=%d repairs=%d "+
		"rebuilds=%d bases=%d secured=%d handed=%d expired=%d judged=%d",
		t.Worlds, t.Time.Hours(), t.Events, t.Operations, t.Reads, t.Messages, t.Repairs,
		t.Rebuilds, t.Bases, t.Secured, t.Handed, t.Expired, t.Judged)
	for f, n := range t.Faults {
		fmt.Fprintf(&b, " %v=%d", Fault(f), n)
	}
	fmt.Fprintf(&b, " violations=%d", t.Violations)
	return b.String()
}
