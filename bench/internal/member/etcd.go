package member

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
)

// Quota is how large etcd's store may become: the most that its papers recommend.
const Quota = 8 << 30

func (m Member) etcd(ctx context.Context) error {
	c := embed.NewConfig()
	c.Name, c.Dir, c.QuotaBackendBytes = m.Name, m.Dir, Quota
	c.LogOutputs, c.LogLevel = []string{"stderr"}, "error"
	advertised := m.Advertised
	if advertised == "" {
		advertised = m.Peers
	}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{plain(m.Peers)}, []url.URL{plain(advertised)}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{plain(m.Clients)}, []url.URL{plain(m.Clients)}
	var cluster []string
	for name, addr := range m.Cluster {
		u := plain(addr)
		cluster = append(cluster, name+"="+u.String())
	}
	slices.Sort(cluster)
	c.InitialCluster = strings.Join(cluster, ",")
	if m.Joins {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case err := <-e.Err():
		return err
	case <-ctx.Done():
		return nil
	}
}

func plain(addr string) url.URL { return url.URL{Scheme: "http", Host: addr} }
