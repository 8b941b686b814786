package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/member"
)

// etcdMember is a member of etcd on loopback, in a process of its own, which others reach through a
// proxy.
type etcdMember struct {
	member.Member
	process *lab.Process
	proxy   *lab.Proxy
	client  *clientv3.Client
}

// etcdMember prepares a member. Its caller closes it, also with an error.
func (b *bench) etcdMember(name string) (m *etcdMember, err error) {
	var addrs [2]string
	for i := range addrs {
		port, err := lab.FreePort()
		if err != nil {
			return nil, err
		}
		addrs[i] = fmt.Sprint("127.0.0.1:", port)
	}
	m = &etcdMember{Member: member.Member{System: "etcd", Name: name, Dir: b.Path(name),
		Peers: addrs[0], Clients: addrs[1]}}
	if m.proxy, err = b.Proxy(m.Peers); err != nil {
		return nil, err
	}
	m.Advertised = m.proxy.Addr
	m.Cluster = map[string]string{name: m.Advertised}
	m.client, err = clientv3.New(clientv3.Config{Endpoints: []string{m.Clients}, Logger: zap.NewNop()})
	return m, err
}

// begin starts the member, and waits until it has applied its log up to some index.
func (m *etcdMember) begin(ctx context.Context, b *bench, index uint64) error {
	program, args, err := m.Process()
	if err != nil {
		return err
	}
	if m.process, err = b.Start(m.Name, program, args...); err != nil {
		return err
	}
	return lab.Await(ctx, b.Patience, m.Name+" has everything", func() bool {
		s, err := m.status(ctx)
		return err == nil && s.RaftAppliedIndex >= index
	})
}

func (m *etcdMember) status(ctx context.Context) (*clientv3.StatusResponse, error) {
	limited, stop := context.WithTimeout(ctx, lab.Patience)
	defer stop()
	return m.client.Status(limited, m.Clients)
}

func (m *etcdMember) close() {
	if m.client != nil {
		_ = m.client.Close()
	}
	m.proxy.Close()
}

// learnerTransactions is in how many at least a member is filled: more than it keeps of its log, or a
// learner would get the log and no snapshot.
const learnerTransactions = 20_000

// learning fills a member, which learners join, one after the other.
func (b *bench) learning(ctx context.Context, cells int) (*full, error) {
	source, err := b.etcdMember("etcd-source")
	if err != nil {
		return nil, err
	}
	f := &full{close: source.close}
	if err := source.begin(ctx, b, 1); err != nil {
		return f, err
	}
	f.process = source.process
	value := strings.Repeat("v", joiningValue)
	f.dial = func(ctx context.Context) (func(i int) error, error) {
		return func(i int) error {
			_, err := source.client.Put(ctx, joiningKey(i), value)
			return err
		}, nil
	}
	var learner uint64
	f.join = func(ctx context.Context) (bytes, held int64, err error) {
		learner, bytes, held, err = b.learn(ctx, source, cells)
		return bytes, held, err
	}
	f.forget = func(ctx context.Context) error {
		_, err := source.client.MemberRemove(ctx, learner)
		return err
	}
	return f, source.fill(ctx, cells)
}

// fill sets all keys, in transactions of some.
func (m *etcdMember) fill(ctx context.Context, cells int) error {
	each := min(max(1, cells/learnerTransactions), 100)
	value := strings.Repeat("v", joiningValue)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		all.Go(func() {
			for ctx.Err() == nil {
				end := int(next.Add(int64(each)))
				var puts []clientv3.Op
				for i := end - each; i < min(end, cells); i++ {
					puts = append(puts, clientv3.OpPut(joiningKey(i), value))
				}
				if puts == nil {
					return
				}
				if _, err := m.client.Txn(ctx).Then(puts...).Commit(); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// learn starts a learner, and waits until it has everything. Its id is that of the member.
func (b *bench) learn(ctx context.Context, source *etcdMember, cells int) (id uint64, bytes, held int64, err error) {
	learner, err := b.etcdMember("etcd-learner")
	if err != nil {
		return 0, 0, 0, err
	}
	defer learner.close()
	url := "http://" + learner.Advertised
	added, err := source.client.MemberAddAsLearner(ctx, []string{url})
	if err != nil {
		return 0, 0, 0, err
	}
	id = added.Member.ID
	s, err := source.status(ctx)
	if err != nil {
		return id, 0, 0, err
	}
	before := source.proxy.Bytes.Load()
	learner.Cluster[source.Name], learner.Joins = source.Advertised, true
	if err := learner.begin(ctx, b, s.RaftAppliedIndex); err != nil {
		return id, 0, 0, err
	}
	bytes = source.proxy.Bytes.Load() - before + learner.proxy.Bytes.Load()
	got, err := learner.client.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithCountOnly(),
		clientv3.WithSerializable())
	if err != nil {
		return id, 0, 0, err
	}
	if got.Count != int64(cells) {
		return id, 0, 0, fmt.Errorf("the learner has %d keys, not %d", got.Count, cells)
	}
	if err := learner.gotSnapshot(ctx); err != nil {
		return id, 0, 0, err
	}
	held, _, err = learner.process.Resident()
	return id, bytes, held, err
}

// gotSnapshot reports an error if the member was sent no snapshot, but the log alone.
func (m *etcdMember) gotSnapshot(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Clients+"/metrics", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && !strings.Contains(string(text), "\netcd_network_snapshot_receive_success{") {
		err = errors.New("the learner was sent no snapshot")
	}
	return err
}
