package report

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine is what was measured on.
type Machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Memory    string `json:"memory"`
	Kernel    string `json:"kernel"`
	System    string `json:"system"`
	Go        string `json:"go"`
	Files     string `json:"file_system"` // of the directory for temporary files
	Load      string `json:"load"`        // at the start
}

// ThisMachine asks /proc and the system. What it is not told is "unknown".
func ThisMachine() Machine {
	m := Machine{
		Processor: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: field("/proc/meminfo", "MemTotal"),
		Kernel: "unknown", System: strings.Trim(field("/etc/os-release", "PRETTY_NAME"), `"`), Go: runtime.Version(),
		Files: "unknown", Load: "unknown",
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(text), " ")
	}
	if out, err := exec.Command("stat", "-f", "-c", "%T", os.TempDir()).Output(); err == nil {
		m.Files = strings.TrimSpace(string(out))
	}
	return m
}

// field returns what stands behind a name in a file of names and values.
func field(file, name string) string {
	text, _ := os.ReadFile(file) // without it all is unknown
	for line := range strings.Lines(string(text)) {
		i := strings.IndexAny(line, ":=")
		if i > 0 && strings.TrimSpace(line[:i]) == name {
			return strings.TrimSpace(line[i+1:])
		}
	}
	return "unknown"
}

// String says it in a line.
func (m Machine) String() string {
	return fmt.Sprintf("%d × %s, %s of memory, %s, Linux %s, %s on %s, load %s at the start",
		m.Cores, m.Processor, m.Memory, m.System, m.Kernel, m.Go, m.Files, m.Load)
}

// Warning says that the directory for temporary files is in memory, where all data is; "" if it is not.
func (m Machine) Warning() string {
	if m.Files != "tmpfs" && m.Files != "ramfs" {
		return ""
	}
	return "Temporary files are on " + m.Files + ", in memory: what is synced reaches no disk, so rows of synced writes say " +
		"nothing of one. Set TMPDIR to a directory on a disk."
}

// Heading says when, on what and of which commit a run is.
func (r *Run) Heading() string {
	heading := fmt.Sprintf("%s, %s, commit %s", r.Began.UTC().Format("2006-01-02 15:04 MST"),
		r.Machine, r.Commit)
	if r.Daemon != "" {
		heading += ", daemons " + r.Daemon
	}
	return heading
}

// NewRun begins a run. Commit is "unknown" where git does not say it.
func NewRun(command, repo string, quick bool) *Run {
	r := &Run{Began: time.Now(), Command: command, Quick: quick, Commit: "unknown", Machine: ThisMachine()}
	if out, err := exec.Command("git", "-C", repo, "describe", "--always", "--dirty").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	return r
}
