package httpapi

import (
	"net/http"
	"time"

	"github.com/peerd/peerd/internal/latency"
)

// Redis is what the server of the Redis protocol has to tell.
type Redis struct {
	Clients   []Client // that came last, those first
	Connected int      // all clients
	Slow      []SlowCommand
	Times     map[string]latency.Counts // of answers, by command, since it was started
}

// Client is a client of the Redis protocol.
type Client struct {
	ID      int64     `json:"id"`
	Address string    `json:"address"`
	Name    string    `json:"name"` // that it gave itself
	Since   time.Time `json:"since"`
	Held    int64     `json:"held_bytes"`
}

// SlowCommand is a command that took longer than the limit of the slow log.
type SlowCommand struct {
	At         time.Time
	Took       time.Duration
	Command    string
	Key        []byte // its beginning; nil if the command has none
	Client     string // address
	ClientName string
}

// clients is the answer about clients and their slow commands.
type clients struct {
	Connected int           `json:"connected"`
	Clients   []Client      `json:"clients"`
	Slow      []slowCommand `json:"slow"`
}

type slowCommand struct {
	At         time.Time `json:"at"`
	Took       float64   `json:"took_ms"`
	Command    string    `json:"command"`
	Key        *octets   `json:"key"`
	Client     string    `json:"client"`
	ClientName string    `json:"client_name"`
}

// listClients answers who is connected over the Redis protocol, and which commands took long.
func (s *Server) listClients(w http.ResponseWriter, r *http.Request) error {
	if q := queryOf(r); q.err != nil {
		return q.err
	}
	out := clients{Clients: []Client{}, Slow: []slowCommand{}}
	if s.redis != nil {
		redis := s.redis()
		out.Connected, out.Clients = redis.Connected, append(out.Clients, redis.Clients...)
		for _, e := range redis.Slow {
			one := slowCommand{
				At: e.At, Took: milliseconds(e.Took), Command: e.Command, Client: e.Client, ClientName: e.ClientName,
			}
			if e.Key != nil {
				key := octets(e.Key)
				one.Key = &key
			}
			out.Slow = append(out.Slow, one)
		}
	}
	answerJSON(w, http.StatusOK, out)
	return nil
}
