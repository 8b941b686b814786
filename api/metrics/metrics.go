// Package metrics shows a daemon's figures to Prometheus.
//
// A scrape asks the peer and the front-ends for their figures, which they keep as plain numbers,
// and gives them Prometheus's form: so no other package knows of it. The registry is this
// package's own; what libraries put into the default one is not shown.
//
// # Contract
//
// Every metric is in one of the tables of this package, and has a row in docs/operations.md,
// which says what to do when it moves: a test holds the two against each other. Names and labels
// do not change within a version of the API. Labels are bounded: members, commands and routes.
//
// # Caveats
//
// A scrape waits for a step of each space, and looks at each file of the store: once a second is
// enough.
package metrics

import (
	"math"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/peerd/peerd/internal/latency"
	"github.com/peerd/peerd/peer"
)

// maxScrapes is how many scrapes are answered at once. More are answered with 503.
const maxScrapes = 4

// Peer is what is asked for figures: a *peer.Peer. It is called by several goroutines at once.
type Peer interface {
	Metrics() (peer.Metrics, error)
}

// Frontend is the figures of a server for clients. What counts up does so since it was started.
type Frontend struct {
	Clients  int                       // connected now
	Accepted uint64                    // connections that were served, those of now included
	Refused  uint64                    // connections beyond the limit
	Held     int64                     // bytes that clients hold
	Evicted  uint64                    // clients closed for the memory that they held
	Unread   uint64                    // clients closed because they took no replies
	Slow     uint64                    // what the slow log had reason to name
	Times    map[string]latency.Counts // of answers, by command or route
}

// Config says whose figures are shown.
type Config struct {
	// Peer is required.
	Peer Peer
	// Version is the program's.
	Version string
	// Redis and HTTP return the figures of the servers. Nil: none are shown.
	Redis, HTTP func() Frontend
}

// New returns what answers scrapes.
func New(config Config) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{config},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

// collector asks at each scrape. It implements prometheus.Collector.
type collector struct{ config Config }

// Describe sends nothing, so that the registry checks metrics when they are collected.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the figures of one scrape.
func (c collector) Collect(out chan<- prometheus.Metric) {
	to := sink{out}
	to.send(gauge, "build_info", "1, labelled with the version.", 1, label{"version", c.config.Version})
	m, err := c.config.Peer.Metrics()
	if err != nil {
		out <- prometheus.NewInvalidMetric(describe("ready", ""), err)
	} else {
		to.peer(&m)
	}
	if c.config.Redis != nil {
		to.redis(c.config.Redis())
	}
	if c.config.HTTP != nil {
		to.http(c.config.HTTP())
	}
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// label is one label of a metric and its value.
type label struct{ name, value string }

// sink gives figures Prometheus's form.
type sink struct{ out chan<- prometheus.Metric }

func describe(name, help string, labels ...label) *prometheus.Desc {
	fixed := prometheus.Labels{}
	for _, l := range labels {
		fixed[l.name] = strings.ToValidUTF8(l.value, "?") // members name themselves
	}
	return prometheus.NewDesc("peerd_"+name, help, nil, fixed)
}

func (s sink) send(kind prometheus.ValueType, name, help string, value float64, labels ...label) {
	if math.IsNaN(value) {
		return // it is unknown
	}
	s.out <- prometheus.MustNewConstMetric(describe(name, help, labels...), kind, value)
}

func (s sink) times(name, help string, c latency.Counts, labels ...label) {
	cumulative, sum := map[float64]uint64{}, uint64(0)
	for i, n := range c.Buckets {
		sum += n
		if bound := latency.Bound(i); bound > 0 {
			cumulative[bound.Seconds()] = sum
		}
	}
	s.out <- prometheus.MustNewConstHistogram(describe(name, help, labels...), c.Total,
		c.Sum.Seconds(), cumulative)
}
