package scenario

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/member"
)

// partedPeerd is a daemon's client, over as many connections as are in use.
type partedPeerd struct {
	host *lab.Host
	idle chan *lab.Client
}

const partedRedis = "127.0.0.1:6379"

func partPeerd(ctx context.Context, b *bench, hosts *lab.Network) (all []parted, err error) {
	key := filepath.Join(b.Path("peerd0"), "cluster.key")
	for i, h := range hosts.Hosts {
		name := fmt.Sprint("peerd", i)
		args := []string{"run", "--dir", b.Path(name), "--name", name, "--log-level", "error",
			"--durability", "always", "--gossip", h.IP + ":7946", "--p2p", h.IP + ":7947",
			"--resp", partedRedis, "--http", "127.0.0.1:7948"}
		if i > 0 {
			args = append(args, "--join", hosts.Hosts[0].IP+":7946", "--cluster-key", key)
		}
		socket := b.Path(name + ".pprof")
		process, err := h.Start(name, b.Peerd, append(args, b.ProfileArgs(socket)...)...)
		if err != nil {
			return all, err
		}
		b.KeepProfiles(ctx, process.Ended, socket, name)
		p := &partedPeerd{h, make(chan *lab.Client, 2*partRate)}
		all = append(all, p)
		err = lab.Await(ctx, lab.Patience, name+" serves", func() bool {
			_, err := p.do(ctx, "PING")
			return err == nil
		})
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (p *partedPeerd) do(ctx context.Context, command ...string) (reply string, err error) {
	var c *lab.Client
	select {
	case c = <-p.idle:
	default:
		conn, err := p.host.Dial(ctx, partedRedis)
		if err != nil {
			return "", err
		}
		c = lab.NewClient(context.Background(), conn) // operations end by their deadlines
	}
	deadline, limited := ctx.Deadline()
	if !limited {
		deadline = time.Now().Add(lab.Patience)
	}
	if reply, err = c.DoBefore(deadline, command...); err != nil {
		c.Close()
		return "", err
	}
	p.idle <- c // there is room for as many as are in use
	return reply, nil
}

func (p *partedPeerd) write(ctx context.Context, key, value string) error {
	_, err := p.do(ctx, "SET", key, value)
	return err
}

func (p *partedPeerd) read(ctx context.Context, key string, _ bool) (bool, error) {
	reply, err := p.do(ctx, "EXISTS", key)
	return reply == "1", err
}

func (p *partedPeerd) keys(ctx context.Context) (map[string]bool, error) {
	reply, err := p.do(ctx, "KEYS", "*")
	return named(strings.Fields(reply)), err
}

func named(keys []string) map[string]bool {
	all := make(map[string]bool, len(keys))
	for _, key := range keys {
		all[key] = true
	}
	return all
}

func (p *partedPeerd) leads(context.Context) bool { return false }

func (p *partedPeerd) close() {
	for {
		select {
		case c := <-p.idle:
			c.Close()
		default:
			return
		}
	}
}

const partedClients = "127.0.0.1:2379"

// startMembers starts a member of a rival's cluster on each host.
func startMembers(b *bench, system string, hosts *lab.Network) error {
	cluster := map[string]string{}
	for i, h := range hosts.Hosts {
		cluster[fmt.Sprint(system, i)] = h.IP + ":2380"
	}
	for i, h := range hosts.Hosts {
		name := fmt.Sprint(system, i)
		program, args, err := member.Member{System: system, Name: name, Dir: b.Path(name), Peers: h.IP + ":2380",
			Clients: partedClients, Cluster: cluster}.Process()
		if err != nil {
			return err
		}
		if _, err := h.Start(name, program, args...); err != nil {
			return err
		}
	}
	return nil
}

// partedEtcd is a client of etcd.
type partedEtcd struct{ client *clientv3.Client }

func partEtcd(_ context.Context, b *bench, hosts *lab.Network) (all []parted, err error) {
	if err := startMembers(b, "etcd", hosts); err != nil {
		return nil, err
	}
	for _, h := range hosts.Hosts {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{partedClients}, Logger: zap.NewNop(),
			DialOptions: []grpc.DialOption{grpc.WithContextDialer(h.Dial)}})
		if err != nil {
			return all, err
		}
		all = append(all, partedEtcd{client})
	}
	return all, nil
}

func (e partedEtcd) write(ctx context.Context, key, value string) error {
	_, err := e.client.Put(ctx, key, value)
	return err
}

func (e partedEtcd) read(ctx context.Context, key string, sure bool) (bool, error) {
	var options []clientv3.OpOption
	if !sure {
		options = append(options, clientv3.WithSerializable())
	}
	answer, err := e.client.Get(ctx, key, options...)
	return err == nil && len(answer.Kvs) > 0, err
}

func (e partedEtcd) keys(ctx context.Context) (map[string]bool, error) {
	answer, err := e.client.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithKeysOnly(),
		clientv3.WithSerializable())
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, kv := range answer.Kvs {
		all[string(kv.Key)] = true
	}
	return all, nil
}

func (e partedEtcd) leads(ctx context.Context) bool {
	s, err := e.client.Status(ctx, partedClients)
	return err == nil && s.Leader == s.Header.MemberId
}

func (e partedEtcd) close() { _ = e.client.Close() }

// partedRaft is a client of a member with hashicorp/raft.
type partedRaft struct{ web *http.Client }

func partRaft(_ context.Context, b *bench, hosts *lab.Network) (all []parted, err error) {
	if err := startMembers(b, "raft", hosts); err != nil {
		return nil, err
	}
	for _, h := range hosts.Hosts {
		dial := func(ctx context.Context, _, addr string) (net.Conn, error) { return h.Dial(ctx, addr) }
		transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 2 * partRate}
		all = append(all, partedRaft{&http.Client{Transport: transport}})
	}
	return all, nil
}

var errRefused = errors.New("the member refused")

// ask sends a request, and returns the answer and whether there was anything.
func (r partedRaft) ask(ctx context.Context, method, path, body string) (answer []byte, ok bool, err error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+partedClients+path, strings.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	response, err := r.web.Do(request)
	if err != nil {
		return nil, false, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusInternalServerError {
		err = fmt.Errorf("%w: %s", errRefused, bytes.TrimSpace(answer))
	}
	return answer, response.StatusCode == http.StatusOK, err
}

func (r partedRaft) write(ctx context.Context, key, value string) error {
	_, _, err := r.ask(ctx, http.MethodPut, "/"+key, value)
	return err
}

func (r partedRaft) read(ctx context.Context, key string, sure bool) (bool, error) {
	path := "/" + key
	if !sure {
		path += "?local"
	}
	_, ok, err := r.ask(ctx, http.MethodGet, path, "")
	return ok, err
}

func (r partedRaft) keys(ctx context.Context) (map[string]bool, error) {
	answer, _, err := r.ask(ctx, http.MethodGet, "/?local", "")
	if err != nil {
		return nil, err
	}
	var paths []string
	if err := json.Unmarshal(answer, &paths); err != nil {
		return nil, err
	}
	for i, path := range paths {
		paths[i] = strings.TrimPrefix(path, "/")
	}
	return named(paths), nil
}

func (r partedRaft) leads(ctx context.Context) bool {
	_, ok, err := r.ask(ctx, http.MethodGet, "/?leader", "")
	return ok && err == nil
}

func (r partedRaft) close() { r.web.CloseIdleConnections() }

// partedZooKeeper is a client of ZooKeeper.
type partedZooKeeper struct {
	client *zk.Conn
	host   *lab.Host
}

const partedZK = "127.0.0.1:2181"

// zkSession is the client's timeout: how long it waits for its server before it tries another.
const zkSession = 10 * time.Second

func partZooKeeper(_ context.Context, b *bench, hosts *lab.Network) (all []parted, err error) {
	var servers []string
	for i, h := range hosts.Hosts {
		servers = append(servers, fmt.Sprintf("server.%d=%s:2888:3888;%s", i+1, h.IP, partedZK))
	}
	for i, h := range hosts.Hosts {
		if err := b.startZooKeeper(h.Start, i, servers); err != nil {
			return all, err
		}
	}
	for _, h := range hosts.Hosts {
		dial := func(_, addr string, limit time.Duration) (net.Conn, error) {
			ctx, stop := context.WithTimeout(context.Background(), limit)
			defer stop()
			return h.Dial(ctx, addr)
		}
		client, _, err := zk.Connect([]string{partedZK}, zkSession, zk.WithLogInfo(false),
			zk.WithLogger(quietZK{}), zk.WithDialer(dial))
		if err != nil {
			return all, err
		}
		all = append(all, partedZooKeeper{client, h})
	}
	return all, nil
}

// do does something that the client cannot give up, and leaves it alone when ctx ends. Without a
// session it is not begun: the client would do it whenever it has one.
func (z partedZooKeeper) do(ctx context.Context, what func() error) error {
	if z.client.State() != zk.StateHasSession {
		return errRefused
	}
	done := make(chan error, 1)
	go func() { done <- what() }() // it ends with the connection
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (z partedZooKeeper) write(ctx context.Context, key, value string) error {
	return z.do(ctx, func() error {
		_, err := z.client.Create("/"+key, []byte(value), 0, zk.WorldACL(zk.PermAll))
		return err
	})
}

func (z partedZooKeeper) read(ctx context.Context, key string, sure bool) (bool, error) {
	found := make(chan bool, 1)
	err := z.do(ctx, func() error {
		if sure {
			if _, err := z.client.Sync("/" + key); err != nil {
				return err
			}
		}
		ok, _, err := z.client.Exists("/" + key)
		found <- ok
		return err
	})
	return err == nil && <-found, err
}

func (z partedZooKeeper) keys(ctx context.Context) (map[string]bool, error) {
	found := make(chan []string, 1)
	err := z.do(ctx, func() error {
		children, _, err := z.client.Children("/")
		found <- children
		return err
	})
	if err != nil {
		return nil, err
	}
	return named(<-found), nil
}

func (z partedZooKeeper) leads(ctx context.Context) bool {
	conn, err := z.host.Dial(ctx, partedZK)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return false
	}
	for in := bufio.NewScanner(conn); in.Scan(); {
		if in.Text() == "Mode: leader" {
			return true
		}
	}
	return false
}

func (z partedZooKeeper) close() { z.client.Close() }
