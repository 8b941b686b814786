package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/peerd/peerd/bench/internal/lab"
)

// openEtcd starts members in this process, each with a client of its own.
func openEtcd(ctx context.Context, b *bench) (*coordinator, error) {
	var members []*embed.Etcd
	var clients []*clientv3.Client
	c := &coordinator{close: func() {
		for _, client := range clients {
			_ = client.Close()
		}
		for _, m := range members {
			m.Close()
		}
	}}
	var configs []*embed.Config
	var cluster []string
	for i := range strongMembers {
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir, cfg.LogOutputs = fmt.Sprint("m", i), b.Path(fmt.Sprint("etcd", i)), []string{os.DevNull}
		peers, err := loopbackURL()
		if err != nil {
			return c, err
		}
		own, err := loopbackURL()
		if err != nil {
			return c, err
		}
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{own}, []url.URL{own}
		cluster = append(cluster, cfg.Name+"="+peers.String())
		configs = append(configs, cfg)
	}
	for _, cfg := range configs {
		cfg.InitialCluster = strings.Join(cluster, ",")
		m, err := embed.StartEtcd(cfg)
		if err != nil {
			return c, err
		}
		members = append(members, m)
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{cfg.AdvertiseClientUrls[0].String()},
			DialTimeout: lab.Patience})
		if err != nil {
			return c, err
		}
		clients = append(clients, client)
	}
	for _, m := range members {
		select {
		case <-m.Server.ReadyNotify():
		case <-ctx.Done():
			return c, ctx.Err()
		}
	}
	c.cas = func(ctx context.Context, client int, key string) error {
		_, err := etcdCAS(ctx, clients[client%len(clients)], key)
		return err
	}
	c.incr = func(ctx context.Context, client int, key string) error {
		for {
			done, err := etcdCAS(ctx, clients[client%len(clients)], key)
			if done || err != nil {
				return err
			}
		}
	}
	return c, nil
}

func loopbackURL() (url.URL, error) {
	port, err := lab.FreePort()
	return url.URL{Scheme: "http", Host: fmt.Sprint("127.0.0.1:", port)}, err
}

// etcdCAS adds one to a counter, unless another came between.
func etcdCAS(ctx context.Context, client *clientv3.Client, key string) (done bool, err error) {
	read, err := client.Get(ctx, key)
	if err != nil {
		return false, err
	}
	var n int
	var revision int64
	if len(read.Kvs) > 0 {
		revision = read.Kvs[0].ModRevision
		if n, err = strconv.Atoi(string(read.Kvs[0].Value)); err != nil {
			return false, err
		}
	}
	wrote, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, strconv.Itoa(n+1))).Commit()
	if err != nil {
		return false, err
	}
	return wrote.Succeeded, nil
}

// counters is the state machine that hashicorp/raft replicates.
type counters struct {
	mu  sync.Mutex
	all map[string]int
}

// change is a command: an increment, or one that expects a value.
type change struct {
	Key      string
	Expected *int `json:",omitempty"`
}

// Apply does a command, and returns whether it took place.
func (c *counters) Apply(l *raft.Log) any {
	var ch change
	if err := json.Unmarshal(l.Data, &ch); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.Expected != nil && c.all[ch.Key] != *ch.Expected {
		return false
	}
	c.all[ch.Key]++
	return true
}

func (c *counters) get(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[key]
}

// Snapshot writes all counters.
func (c *counters) Snapshot() (raft.FSMSnapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	data, err := json.Marshal(c.all)
	return countersSnapshot(data), err
}

// Restore reads what Snapshot wrote.
func (c *counters) Restore(in io.ReadCloser) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(json.NewDecoder(in).Decode(&c.all), in.Close())
}

type countersSnapshot []byte

// Persist writes the snapshot where raft keeps it.
func (s countersSnapshot) Persist(to raft.SnapshotSink) error {
	_, err := to.Write(s)
	return errors.Join(err, to.Close())
}

// Release frees nothing: the snapshot is a copy.
func (countersSnapshot) Release() {}

// openRaft starts members in this process, which speak TCP with each other.
func openRaft(ctx context.Context, b *bench) (*coordinator, error) {
	var members []*raft.Raft
	var states []*counters
	var logs []*wal.WAL
	c := &coordinator{close: func() {
		for _, m := range members {
			_ = m.Shutdown().Error()
		}
		for _, l := range logs {
			_ = l.Close()
		}
	}}
	var servers []raft.Server
	for i := range strongMembers {
		dir := b.Path(fmt.Sprint("raft", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return c, err
		}
		log, err := wal.Open(dir)
		if err != nil {
			return c, err
		}
		logs = append(logs, log)
		transport, err := raft.NewTCPTransport("127.0.0.1:0", nil, 3, lab.Patience, io.Discard)
		if err != nil {
			return c, err
		}
		snapshots, err := raft.NewFileSnapshotStore(dir, 2, io.Discard)
		if err != nil {
			return c, err
		}
		cfg := raft.DefaultConfig()
		cfg.LocalID, cfg.LogOutput = raft.ServerID(fmt.Sprint(i)), io.Discard
		state := &counters{all: map[string]int{}}
		m, err := raft.NewRaft(cfg, state, log, log, snapshots, transport)
		if err != nil {
			return c, err
		}
		members, states = append(members, m), append(states, state)
		servers = append(servers, raft.Server{ID: cfg.LocalID, Address: transport.LocalAddr()})
	}
	if err := members[0].BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return c, err
	}
	leader := -1
	err := lab.Await(ctx, lab.Patience, "a leader is elected", func() bool {
		for i, m := range members {
			if m.State() == raft.Leader {
				leader = i
			}
		}
		return leader >= 0
	})
	if err != nil {
		return c, err
	}
	apply := func(ch change) error {
		data, err := json.Marshal(ch)
		if err != nil {
			return err
		}
		return members[leader].Apply(data, lab.Patience).Error()
	}
	c.incr = func(_ context.Context, _ int, key string) error { return apply(change{Key: key}) }
	c.cas = func(_ context.Context, _ int, key string) error {
		expected := states[leader].get(key)
		return apply(change{key, &expected})
	}
	return c, nil
}

// zookeeper makes sure that Debian's ZooKeeper is there, and what it runs in.
func (b *bench) zookeeper(ctx context.Context) error {
	if err := b.Debian(ctx, "java", "default-jre-headless"); err != nil {
		return err
	}
	if _, err := os.Stat(zookeeperJar); err == nil {
		return nil
	}
	return b.Install(ctx, "zookeeper")
}

const zookeeperJar = "/usr/share/java/zookeeper.jar"

func (b *bench) zookeeperVersion(ctx context.Context) string {
	return b.programVersion(ctx, "dpkg-query", "-W", "-f", "${Version}", "zookeeper")
}

// openZooKeeper starts members as processes, each with a client of its own.
func openZooKeeper(ctx context.Context, b *bench) (*coordinator, error) {
	var clients []*zk.Conn
	c := &coordinator{close: func() {
		for _, client := range clients {
			client.Close()
		}
	}}
	var servers, addrs []string
	for i := range strongMembers {
		var ports [3]int
		for j := range ports {
			var err error
			if ports[j], err = lab.FreePort(); err != nil {
				return c, err
			}
		}
		addrs = append(addrs, fmt.Sprint("127.0.0.1:", ports[0]))
		servers = append(servers, fmt.Sprintf("server.%d=127.0.0.1:%d:%d;127.0.0.1:%d", i+1, ports[1], ports[2], ports[0]))
	}
	for i := range strongMembers {
		if err := b.startZooKeeper(b.Start, i, servers); err != nil {
			return c, err
		}
	}
	for _, addr := range addrs {
		client, _, err := zk.Connect([]string{addr}, 10*time.Second, zk.WithLogInfo(false), zk.WithLogger(quietZK{}))
		if err != nil {
			return c, err
		}
		clients = append(clients, client)
	}
	for k := range strongKeys {
		path := fmt.Sprint("/key", k)
		err := lab.Await(ctx, lab.Patience, "ZooKeeper serves", func() bool {
			_, err := clients[0].Create(path, []byte("0"), 0, zk.WorldACL(zk.PermAll))
			return err == nil || errors.Is(err, zk.ErrNodeExists)
		})
		if err != nil {
			return c, err
		}
	}
	for _, client := range clients {
		if _, err := client.Sync("/key0"); err != nil {
			return c, err
		}
	}
	c.cas = func(_ context.Context, client int, key string) error {
		_, err := zkCAS(clients[client%len(clients)], key)
		return err
	}
	c.incr = func(ctx context.Context, client int, key string) error {
		for ctx.Err() == nil {
			if done, err := zkCAS(clients[client%len(clients)], key); done || err != nil {
				return err
			}
		}
		return ctx.Err()
	}
	return c, nil
}

type quietZK struct{}

func (quietZK) Printf(string, ...any) {}

// starting starts a process.
type starting = func(name, program string, args ...string) (*lab.Process, error)

// startZooKeeper starts a member with the class path that Debian's package names.
func (b *bench) startZooKeeper(start starting, i int, servers []string) error {
	dir := b.Path(fmt.Sprint("zookeeper", i))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	cfg := filepath.Join(dir, "zoo.cfg")
	text := fmt.Sprintf("tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=%s\nadmin.enableServer=false\n%s\n", dir,
		strings.Join(servers, "\n"))
	err := errors.Join(os.WriteFile(cfg, []byte(text), 0o600),
		os.WriteFile(filepath.Join(dir, "myid"), []byte(fmt.Sprint(i+1)), 0o600))
	if err != nil {
		return err
	}
	_, err = start(fmt.Sprint("zookeeper-", i), "bash", "-c", `. /etc/zookeeper/conf/environment
exec java -Xmx512m -cp "$CLASSPATH" -Dzookeeper.log.dir=. org.apache.zookeeper.server.quorum.QuorumPeerMain "$1"`,
		"zookeeper", cfg)
	return err
}

// zkCAS adds one to a counter, unless another came between.
func zkCAS(client *zk.Conn, key string) (done bool, err error) {
	data, at, err := client.Get("/" + key)
	if err != nil {
		return false, err
	}
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return false, err
	}
	_, err = client.Set("/"+key, []byte(strconv.Itoa(n+1)), at.Version)
	if errors.Is(err, zk.ErrBadVersion) {
		return false, nil
	}
	return err == nil, err
}
