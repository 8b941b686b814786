package members

import (
	"strings"
	"time"

	"github.com/peerd/peerd/internal/wire"
)

// Report is what a member tells of how it is, with each answer to a probe. A hint for people: it
// is as old as the last probe, and no more than the member's word.
type Report struct {
	Version    string // of its program
	Ready      bool
	Reason     string   // why it is not ready
	StoreBytes uint64   // of its data
	FreeBytes  uint64   // of its disk
	Replica    string   // the id under which it writes
	Problems   []string // the ids of what is wrong there, of each kind one; empty, and not nil, if nothing is
}

// maxReportText is the size in bytes of each text of a report; a longer one is cut off. An answer
// to a probe stays one packet.
const maxReportText = 128

// A report has so many ids of problems, of so many bytes each; what is beyond is left out.
const (
	maxReportProblems = 16
	maxReportID       = 24
)

// reportFields is how many fields a report has behind the time of an answer.
const reportFields = 7

// encodeAnswer returns what an answer to a probe carries: the time, and the report if there is one.
func encodeAnswer(now time.Time, report *Report) []byte {
	return wire.Encode(func(w *wire.Writer) {
		fields := 1
		if report != nil {
			fields += reportFields
		}
		w.Array(fields)
		w.Uint(uint64(max(0, now.UnixNano())))
		if report == nil {
			return
		}
		w.String(cutReport(report.Version))
		w.Bool(report.Ready)
		w.String(cutReport(report.Reason))
		w.Uint(report.StoreBytes)
		w.Uint(report.FreeBytes)
		w.String(cutReport(report.Replica))
		problems := report.Problems[:min(len(report.Problems), maxReportProblems)]
		w.Array(len(problems))
		for _, id := range problems {
			w.String(id[:min(len(id), maxReportID)])
		}
	})
}

func cutReport(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxReportText)], "")
}

// decodeReport returns the report in what an answer carries; nil if there is none.
func decodeReport(payload []byte) *Report {
	report := &Report{Problems: []string{}}
	err := wire.Decode(payload, func(r *wire.Reader) {
		extra := r.Fields(1 + reportFields)
		r.Uint()
		report.Version, report.Ready = Printable(r.String(maxReportText)), r.Bool()
		report.Reason = Printable(r.String(maxReportText))
		report.StoreBytes, report.FreeBytes = r.Uint(), r.Uint()
		report.Replica = Printable(r.String(maxReportText))
		for range r.Array(maxReportProblems) {
			report.Problems = append(report.Problems, Printable(r.String(maxReportID)))
		}
		r.Skip(extra)
	})
	if err != nil {
		return nil
	}
	return report
}

// reported notes what a member told of itself.
func (t *table) reported(id string, report *Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.known[id]; r != nil && r.Alive {
		r.Report = report
	}
}
