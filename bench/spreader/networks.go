package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	corehost "github.com/libp2p/go-libp2p/core/host"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/spread"
)

// message is the n-th, as a member sends it; parts reads it.
func message(n, from int) string {
	text := fmt.Sprintf("%d %d ", n, from)
	return text + strings.Repeat("m", max(0, spread.Payload-len(text)))
}

func parts(text string) (n, from int) {
	if _, err := fmt.Sscan(text, &n, &from); err != nil {
		panic("a message is " + text) // only our own are sent here
	}
	return n, from
}

// memberlistNetwork broadcasts what rides on membership's gossip. It is the delegate that passes
// broadcasts on, too.
type memberlistNetwork struct {
	spread.Member
	list   *memberlist.Memberlist
	queue  *memberlist.TransmitLimitedQueue
	copies atomic.Int64
	mu     sync.Mutex
	had    map[int]bool // the messages that were passed on
}

// rumour is a message in the queue.
type rumour []byte

func (r rumour) Invalidates(memberlist.Broadcast) bool { return false }
func (r rumour) Message() []byte                       { return r }
func (r rumour) Finished()                             {}

func (m *memberlistNetwork) NodeMeta(int) []byte               { return nil }
func (m *memberlistNetwork) LocalState(bool) []byte            { return nil }
func (m *memberlistNetwork) MergeRemoteState(_ []byte, _ bool) {}

func (m *memberlistNetwork) GetBroadcasts(overhead, limit int) [][]byte {
	return m.queue.GetBroadcasts(overhead, limit)
}

// NotifyMsg sees a message, and passes on one that is new.
func (m *memberlistNetwork) NotifyMsg(b []byte) {
	n, from := parts(string(b))
	if n >= 0 { // what only found out whether all are connected is still told when messages are counted
		m.copies.Add(1)
	}
	m.pass(n, from)
}

func (m *memberlistNetwork) pass(n, from int) {
	m.mu.Lock()
	isNew := !m.had[n]
	m.had[n] = true
	m.mu.Unlock()
	if isNew {
		m.Seen(n, from)
		m.queue.QueueBroadcast(rumour(message(n, m.Index)))
	}
}

func openMemberlist(_ context.Context, of spread.Member) (spread.Network, error) {
	m := &memberlistNetwork{Member: of, had: map[int]bool{}}
	c := memberlist.DefaultLANConfig()
	c.Name, c.BindAddr = fmt.Sprint(of.Index), spread.IP(of.Index)
	c.Delegate, c.Logger = m, log.New(io.Discard, "", 0)
	m.queue = &memberlist.TransmitLimitedQueue{NumNodes: func() int { return of.Members },
		RetransmitMult: c.RetransmitMult}
	var err error
	m.list, err = memberlist.Create(c)
	return m, err
}

func (m *memberlistNetwork) Address() string { return m.list.LocalNode().Address() }

func (m *memberlistNetwork) Join(_ context.Context, all []string) error {
	_, err := m.list.Join(all[:1])
	return err
}

func (m *memberlistNetwork) Publish(_ context.Context, n int) error {
	m.pass(n, m.Index)
	return nil
}

func (m *memberlistNetwork) Copies(context.Context) (int, error) { return int(m.copies.Load()), nil }

func (m *memberlistNetwork) Close() {
	if m.list != nil {
		_ = m.list.Shutdown()
	}
}

// gossipsubNetwork is a libp2p host that subscribes to a topic, and traces what it receives.
type gossipsubNetwork struct {
	spread.Member
	host   corehost.Host
	topic  *pubsub.Topic
	copies atomic.Int64
	stop   context.CancelFunc
	joined chan struct{} // closed when it knows the others
	ids    []libpeer.ID
}

// Trace counts messages that others sent.
func (g *gossipsubNetwork) Trace(e *pb.TraceEvent) {
	if e.GetType() == pb.TraceEvent_RECV_RPC {
		g.copies.Add(int64(len(e.GetRecvRPC().GetMeta().GetMessages())))
	}
}

func openGossipsub(ctx context.Context, of spread.Member) (spread.Network, error) {
	ctx, stop := context.WithCancel(ctx)
	g := &gossipsubNetwork{Member: of, stop: stop, joined: make(chan struct{})}
	var err error
	g.host, err = libp2p.New(libp2p.ListenAddrStrings("/ip4/" + spread.IP(of.Index) + "/tcp/4001"))
	if err != nil {
		return g, err
	}
	router, err := pubsub.NewGossipSub(ctx, g.host, pubsub.WithMessageSignaturePolicy(pubsub.LaxNoSign),
		pubsub.WithEventTracer(g))
	if err != nil {
		return g, err
	}
	if g.topic, err = router.Join("messages"); err != nil {
		return g, err
	}
	subscription, err := g.topic.Subscribe()
	if err != nil {
		return g, err
	}
	go func() {
		<-g.joined
		for {
			m, err := subscription.Next(ctx)
			if err != nil {
				return
			}
			n, _ := parts(string(m.Data))
			g.Seen(n, slices.Index(g.ids, m.ReceivedFrom))
		}
	}()
	return g, nil
}

func (g *gossipsubNetwork) Address() string {
	return fmt.Sprintf("%s/p2p/%s", g.host.Addrs()[0], g.host.ID())
}

// Join connects with those before; those after do so themselves.
func (g *gossipsubNetwork) Join(ctx context.Context, all []string) error {
	for i, address := range all {
		info, err := libpeer.AddrInfoFromString(address)
		if err != nil {
			return err
		}
		g.ids = append(g.ids, info.ID)
		if i < g.Index {
			if err := g.host.Connect(ctx, *info); err != nil {
				return err
			}
		}
	}
	close(g.joined)
	return nil
}

func (g *gossipsubNetwork) Publish(ctx context.Context, n int) error {
	return g.topic.Publish(ctx, []byte(message(n, g.Index)))
}

func (g *gossipsubNetwork) Copies(context.Context) (int, error) { return int(g.copies.Load()), nil }

func (g *gossipsubNetwork) Close() {
	g.stop()
	if g.host != nil {
		_ = g.host.Close()
	}
}

// natsNetwork is a server of a cluster, with a client that subscribes. Servers pass on only what
// their own clients publish.
type natsNetwork struct {
	spread.Member
	server *natsserver.Server
	client *nats.Conn
}

func openNATS(_ context.Context, of spread.Member) (spread.Network, error) {
	n := &natsNetwork{Member: of}
	options := &natsserver.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true,
		ServerName: fmt.Sprint("s", of.Index),
		Cluster:    natsserver.ClusterOpts{Name: "bench", Host: spread.IP(of.Index), Port: 6222}}
	if of.Index > 0 {
		options.Routes = []*url.URL{{Scheme: "nats", Host: spread.IP(0) + ":6222"}}
	}
	var err error
	if n.server, err = natsserver.NewServer(options); err != nil {
		return n, err
	}
	n.server.Start()
	if !n.server.ReadyForConnections(lab.Patience) {
		return n, fmt.Errorf("server %d does not serve", of.Index)
	}
	if n.client, err = nats.Connect(n.server.ClientURL()); err != nil {
		return n, err
	}
	_, err = n.client.Subscribe("messages", func(m *nats.Msg) {
		number, from := parts(string(m.Data))
		n.Seen(number, from)
	})
	return n, err
}

func (n *natsNetwork) Address() string { return n.server.ClusterAddr().String() }

// Join waits until the server has found all others.
func (n *natsNetwork) Join(ctx context.Context, all []string) error {
	return lab.Await(ctx, lab.Patience, "the servers are linked", func() bool {
		return n.server.NumRoutes() >= len(all)-1
	})
}

func (n *natsNetwork) Publish(_ context.Context, i int) error {
	if err := n.client.Publish("messages", []byte(message(i, n.Index))); err != nil {
		return err
	}
	return n.client.Flush()
}

func (n *natsNetwork) Copies(context.Context) (int, error) {
	routes, err := n.server.Routez(nil)
	if err != nil {
		return 0, err
	}
	copies := 0
	for _, r := range routes.Routes {
		copies += int(r.InMsgs)
	}
	return copies, nil
}

func (n *natsNetwork) Close() {
	if n.client != nil {
		n.client.Close()
	}
	if n.server != nil {
		n.server.Shutdown()
	}
}
