package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/memberlist"
	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	corehost "github.com/libp2p/go-libp2p/core/host"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/peerd/peerd/bench/internal/lab"
	"github.com/peerd/peerd/bench/internal/spread"
	"github.com/peerd/peerd/peer"
)

// message is the n-th, as it is sent; numberOf reads it.
func message(n int) string {
	text := strconv.Itoa(n)
	return text + " " + strings.Repeat("m", max(0, spread.Payload-len(text)-1))
}

func numberOf(text string) int {
	number, _, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		panic("a message is " + text) // only our own are sent here
	}
	return n
}

// peerdNetwork is peers in memory. A message is a key's value, and seen when a watch tells of it.
type peerdNetwork struct {
	peers []*peer.Peer
	stop  context.CancelFunc
}

func openPeerd(ctx context.Context, dir string, members int, seen func(member, n int)) (spread.Network, error) {
	ctx, stop := context.WithCancel(ctx)
	p, first := &peerdNetwork{stop: stop}, ""
	for i := range members {
		cfg := peer.Config{Dir: filepath.Join(dir, fmt.Sprint(i)), Name: fmt.Sprint(i), FastGossip: true,
			Durability: peer.None, Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0"}
		if i > 0 {
			cfg.Join = []string{first}
			cfg.ClusterKey = filepath.Join(dir, "0", "cluster.key")
		}
		opened, err := peer.Open(ctx, cfg)
		if err != nil {
			return p, err
		}
		p.peers = append(p.peers, opened)
		if i == 0 {
			s, err := opened.Status()
			if err != nil {
				return p, err
			}
			first = s.GossipAddr
		}
		w := opened.Watch("message:")
		go func() {
			for {
				change, err := w.Next(ctx)
				if err != nil {
					return
				}
				for _, key := range change.Keys {
					if n, err := strconv.Atoi(strings.TrimPrefix(key, "message:")); err == nil {
						seen(i, n)
					}
				}
			}
		}()
	}
	return p, nil
}

func (p *peerdNetwork) Publish(ctx context.Context, n int) error {
	return p.peers[0].Update(ctx, func(tx *peer.Tx) error {
		return tx.String(fmt.Sprint("message:", n)).Set([]byte(message(n)))
	})
}

func (p *peerdNetwork) Close() {
	p.stop()
	for _, one := range p.peers {
		_ = one.Close()
	}
}

// memberlistNetwork broadcasts what rides on membership's gossip.
type memberlistNetwork struct{ all []*memberlistMember }

// memberlistMember is a member, and the delegate that passes broadcasts on.
type memberlistMember struct {
	list  *memberlist.Memberlist
	queue *memberlist.TransmitLimitedQueue
	seen  func(n int)
	had   chan map[int]bool // the messages that were passed on; taken while it is looked at
}

// rumour is a message in the queue.
type rumour []byte

func (r rumour) Invalidates(memberlist.Broadcast) bool { return false }
func (r rumour) Message() []byte                       { return r }
func (r rumour) Finished()                             {}

func (m *memberlistMember) NodeMeta(int) []byte               { return nil }
func (m *memberlistMember) LocalState(bool) []byte            { return nil }
func (m *memberlistMember) MergeRemoteState(_ []byte, _ bool) {}

func (m *memberlistMember) GetBroadcasts(overhead, limit int) [][]byte {
	return m.queue.GetBroadcasts(overhead, limit)
}

// NotifyMsg sees a message, and passes on one that is new.
func (m *memberlistMember) NotifyMsg(b []byte) {
	n := numberOf(string(b))
	had := <-m.had
	isNew := !had[n]
	had[n] = true
	m.had <- had
	if isNew {
		m.seen(n)
		m.queue.QueueBroadcast(rumour(append([]byte(nil), b...)))
	}
}

func openMemberlist(_ context.Context, _ string, members int, seen func(member, n int)) (spread.Network, error) {
	all := &memberlistNetwork{}
	for i := range members {
		m := &memberlistMember{seen: func(n int) { seen(i, n) }, had: make(chan map[int]bool, 1)}
		m.had <- map[int]bool{}
		c := memberlist.DefaultLocalConfig()
		c.Name, c.BindAddr, c.BindPort, c.AdvertisePort = fmt.Sprint(i), "127.0.0.1", 0, 0
		c.Delegate, c.Logger = m, log.New(io.Discard, "", 0)
		m.queue = &memberlist.TransmitLimitedQueue{NumNodes: func() int { return members },
			RetransmitMult: c.RetransmitMult}
		var err error
		if m.list, err = memberlist.Create(c); err != nil {
			return all, err
		}
		all.all = append(all.all, m)
		if i > 0 {
			first := all.all[0].list.LocalNode()
			if _, err := m.list.Join([]string{first.Address()}); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

func (m *memberlistNetwork) Publish(_ context.Context, n int) error {
	m.all[0].NotifyMsg([]byte(message(n)))
	return nil
}

func (m *memberlistNetwork) Close() {
	for _, one := range m.all {
		_ = one.list.Shutdown()
	}
}

// gossipsubNetwork is libp2p hosts that subscribe to one topic.
type gossipsubNetwork struct {
	hosts []corehost.Host
	topic *pubsub.Topic // the first one's
	stop  context.CancelFunc
}

func openGossipsub(ctx context.Context, _ string, members int, seen func(member, n int)) (spread.Network, error) {
	ctx, stop := context.WithCancel(ctx)
	g := &gossipsubNetwork{stop: stop}
	for i := range members {
		h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
		if err != nil {
			return g, err
		}
		g.hosts = append(g.hosts, h)
		router, err := pubsub.NewGossipSub(ctx, h, pubsub.WithMessageSignaturePolicy(pubsub.LaxNoSign))
		if err != nil {
			return g, err
		}
		topic, err := router.Join("messages")
		if err != nil {
			return g, err
		}
		if i == 0 {
			g.topic = topic
		}
		subscription, err := topic.Subscribe()
		if err != nil {
			return g, err
		}
		go func() {
			for {
				m, err := subscription.Next(ctx)
				if err != nil {
					return
				}
				seen(i, numberOf(string(m.Data)))
			}
		}()
		for _, other := range g.hosts[:i] {
			info := libpeer.AddrInfo{ID: other.ID(), Addrs: other.Addrs()}
			if err := h.Connect(ctx, info); err != nil {
				return g, err
			}
		}
	}
	return g, nil
}

func (g *gossipsubNetwork) Publish(ctx context.Context, n int) error {
	return g.topic.Publish(ctx, []byte(message(n)))
}

func (g *gossipsubNetwork) Close() {
	g.stop()
	for _, h := range g.hosts {
		_ = h.Close()
	}
}

// natsNetwork is a cluster of servers, each with a client that subscribes.
type natsNetwork struct {
	servers []*natsserver.Server
	clients []*nats.Conn
}

func openNATS(ctx context.Context, _ string, members int, seen func(member, n int)) (spread.Network, error) {
	all := &natsNetwork{}
	var routes []*url.URL
	for i := range members {
		options := &natsserver.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true,
			ServerName: fmt.Sprint("s", i), Routes: routes,
			Cluster: natsserver.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: -1}}
		s, err := natsserver.NewServer(options)
		if err != nil {
			return all, err
		}
		s.Start()
		all.servers = append(all.servers, s)
		if !s.ReadyForConnections(lab.Patience) {
			return all, fmt.Errorf("server %d does not serve", i)
		}
		if i == 0 {
			routes = []*url.URL{{Scheme: "nats", Host: s.ClusterAddr().String()}}
		}
		c, err := nats.Connect(s.ClientURL())
		if err != nil {
			return all, err
		}
		all.clients = append(all.clients, c)
		_, err = c.Subscribe("messages", func(m *nats.Msg) { seen(i, numberOf(string(m.Data))) })
		if err != nil {
			return all, err
		}
	}
	return all, lab.Await(ctx, lab.Patience, "the servers are linked", func() bool {
		for _, s := range all.servers {
			if s.NumRoutes() < members-1 {
				return false
			}
		}
		return true
	})
}

func (n *natsNetwork) Publish(_ context.Context, i int) error {
	if err := n.clients[0].Publish("messages", []byte(message(i))); err != nil {
		return err
	}
	return n.clients[0].Flush()
}

func (n *natsNetwork) Close() {
	for _, c := range n.clients {
		c.Close()
	}
	for _, s := range n.servers {
		s.Shutdown()
	}
}
