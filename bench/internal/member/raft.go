package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// forwards is the port, beside that of raft, on which members take what others cannot do.
const forwards = "8301"

// raftTimeout is how long members wait for one another on a connection: as Consul has it.
const raftTimeout = 10 * time.Second

// raftMember is a store of keys that hashicorp/raft replicates, over HTTP:
//
//	PUT /KEY           sets it
//	GET /KEY           its value, which no write is missing from that was acknowledged before
//	GET /KEY?local     its value here
//	GET /?local        all keys here, as JSON
//	GET /?leader       answers at the leader alone
//
// Who is not the leader forwards the first two to it.
type raftMember struct {
	raft    *raft.Raft
	state   *keys
	barrier atomic.Uint64 // the term in which this leader has what the leaders before it had
	others  http.Client
}

func (m Member) raft(ctx context.Context) error {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	log, err := wal.Open(m.Dir)
	if err != nil {
		return err
	}
	defer log.Close()
	transport, err := raft.NewTCPTransport(m.Peers, nil, 3, raftTimeout, io.Discard)
	if err != nil {
		return err
	}
	snapshots, err := raft.NewFileSnapshotStore(filepath.Join(m.Dir, "snapshots"), 2, io.Discard)
	if err != nil {
		return err
	}
	c := raft.DefaultConfig()
	c.LocalID, c.LogOutput = raft.ServerID(m.Name), io.Discard
	own := &raftMember{state: &keys{all: map[string]string{}},
		others: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	if own.raft, err = raft.NewRaft(c, own.state, log, log, snapshots, transport); err != nil {
		return err
	}
	defer func() { _ = own.raft.Shutdown().Error() }()
	var servers []raft.Server
	for name, addr := range m.Cluster {
		servers = append(servers, raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(addr)})
	}
	if err := own.raft.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return err
	}
	return own.serve(ctx, m)
}

// serve answers clients, and other members, who are not forwarded again.
func (o *raftMember) serve(ctx context.Context, m Member) error {
	host, _, err := net.SplitHostPort(m.Peers)
	if err != nil {
		return err
	}
	clients := http.Server{Addr: m.Clients, Handler: http.HandlerFunc(o.client)}
	others := http.Server{Addr: net.JoinHostPort(host, forwards), Handler: http.HandlerFunc(o.lead)}
	defer clients.Close()
	defer others.Close()
	failed := make(chan error, 2)
	go func() { failed <- clients.ListenAndServe() }()
	go func() { failed <- others.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (o *raftMember) client(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch {
	case query.Has("leader"):
		if o.raft.State() != raft.Leader {
			http.Error(w, "it is another", http.StatusServiceUnavailable)
		}
	case query.Has("local") && r.URL.Path == "/":
		_ = json.NewEncoder(w).Encode(o.state.names()) // or the client is gone
	case query.Has("local"):
		o.answer(w, r.URL.Path)
	case o.raft.State() == raft.Leader:
		o.lead(w, r)
	default:
		o.forward(w, r)
	}
}

func (o *raftMember) answer(w http.ResponseWriter, key string) {
	value, ok := o.state.get(key)
	if !ok {
		http.Error(w, "no such key", http.StatusNotFound)
		return
	}
	_, _ = io.WriteString(w, value)
}

// lead does what the leader alone can.
func (o *raftMember) lead(w http.ResponseWriter, r *http.Request) {
	var err error
	if r.Method == http.MethodPut {
		err = o.put(r)
	} else {
		err = o.confirm()
	}
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case r.Method != http.MethodPut:
		o.answer(w, r.URL.Path)
	}
}

func (o *raftMember) put(r *http.Request) error {
	value, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	command, err := json.Marshal([2]string{r.URL.Path, string(value)})
	if err != nil {
		return err
	}
	return o.raft.Apply(command, raftTimeout).Error()
}

// confirm makes sure that what is read now is not old: that this is the leader still, and that it
// has applied all that was acknowledged. What it acknowledged itself it has; what the leaders before
// it did it has after a barrier. Ongaro, "Consensus: Bridging Theory and Practice", 6.4.
func (o *raftMember) confirm() error {
	term := o.raft.CurrentTerm()
	if o.barrier.Load() != term {
		if err := o.raft.Barrier(raftTimeout).Error(); err != nil {
			return err
		}
		o.barrier.Store(term)
	}
	if err := o.raft.VerifyLeader().Error(); err != nil {
		return err
	}
	if o.raft.CurrentTerm() != term {
		return raft.ErrLeadershipLost
	}
	return nil
}

// forward has the leader do it.
func (o *raftMember) forward(w http.ResponseWriter, r *http.Request) {
	addr, _ := o.raft.LeaderWithID()
	host, _, err := net.SplitHostPort(string(addr))
	if err != nil {
		http.Error(w, "there is no leader", http.StatusServiceUnavailable)
		return
	}
	request, err := http.NewRequestWithContext(r.Context(), r.Method,
		fmt.Sprintf("http://%s%s", net.JoinHostPort(host, forwards), r.URL.Path), r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	request.ContentLength = r.ContentLength
	answer, err := o.others.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}

// keys is the state machine: values by key.
type keys struct {
	mu  sync.Mutex
	all map[string]string
}

// Apply sets a key.
func (k *keys) Apply(l *raft.Log) any {
	var command [2]string
	if err := json.Unmarshal(l.Data, &command); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[command[0]] = command[1]
	return nil
}

func (k *keys) get(key string) (value string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	value, ok = k.all[key]
	return value, ok
}

func (k *keys) names() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Keys(k.all))
}

// Snapshot writes all keys.
func (k *keys) Snapshot() (raft.FSMSnapshot, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	data, err := json.Marshal(k.all)
	return snapshot(data), err
}

// Restore reads what Snapshot wrote.
func (k *keys) Restore(in io.ReadCloser) error {
	all := map[string]string{}
	if err := errors.Join(json.NewDecoder(in).Decode(&all), in.Close()); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = all
	return nil
}

type snapshot []byte

// Persist writes the snapshot where raft keeps it.
func (s snapshot) Persist(to raft.SnapshotSink) error {
	_, err := to.Write(s)
	return errors.Join(err, to.Close())
}

// Release frees nothing: the snapshot is a copy.
func (snapshot) Release() {}
