package metrics

import (
	"maps"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peerd/peerd/internal/latency"
	"github.com/peerd/peerd/peer"
)

// figure is a metric without labels. What to do when it moves stands in docs/operations.md.
type figure[T any] struct {
	kind  prometheus.ValueType
	name  string
	help  string
	value func(of T) float64
}

var peerFigures = []figure[*peer.Metrics]{
	{gauge, "ready", "Whether the peer has caught up and takes writes.",
		func(m *peer.Metrics) float64 { return truth(m.Ready) }},
	{counter, "transactions_total", "Transactions that succeeded, reading ones included.",
		func(m *peer.Metrics) float64 { return float64(m.Transactions) }},
	{counter, "transactions_failed_total", "Transactions that failed and changed nothing.",
		func(m *peer.Metrics) float64 { return float64(m.Failed) }},
	{counter, "commit_groups_total", "Commit groups, each of many deltas.",
		func(m *peer.Metrics) float64 { return float64(m.Commits) }},
	{counter, "deltas_total", "Deltas that were written, of this peer and of others.",
		func(m *peer.Metrics) float64 { return float64(m.Deltas) }},

	{gauge, "dots", "Mutations that are here, of all replicas and spaces.",
		func(m *peer.Metrics) float64 {
			return total(m, func(s peer.SpaceStatus) int { return int(s.Mutations) })
		}},
	{gauge, "stable_dots", "Mutations here that all linked members are known to have.",
		func(m *peer.Metrics) float64 {
			if !slices.ContainsFunc(m.Members, func(m peer.Member) bool { return m.Linked }) {
				return unknown
			}
			return float64(m.Stable)
		}},
	{gauge, "replicas", "Replicas that have written: starts of hosts.",
		func(m *peer.Metrics) float64 { return total(m, func(s peer.SpaceStatus) int { return s.Replicas }) }},
	{gauge, "replicas_listed", "Entries of the version vector: others are left out because they write no more.",
		func(m *peer.Metrics) float64 {
			return total(m, func(s peer.SpaceStatus) int { return len(s.VersionVector) })
		}},
	{gauge, "deltas_waiting", "Deltas that overtook what they depend on.",
		func(m *peer.Metrics) float64 { return float64(m.Waiting) }},

	{counter, "mismatches_total", "Digests of members with the same writes and different data.",
		func(m *peer.Metrics) float64 { return float64(m.Mismatches) }},
	{gauge, "forks", "Replicas whose mutations were issued twice.",
		func(m *peer.Metrics) float64 { return total(m, func(s peer.SpaceStatus) int { return len(s.Forks) }) }},
	{gauge, "quarantined_peers", "Peers with which nothing is exchanged, because of a fork.",
		func(m *peer.Metrics) float64 { return float64(quarantined(m)) }},
	{counter, "rebuilds_total", "Times that this peer was rebuilt from others.",
		func(m *peer.Metrics) float64 { return float64(m.Rebuilds) }},
	{counter, "repairs_total", "Repairs of this peer by comparing cells.",
		func(m *peer.Metrics) float64 { return float64(m.Repairs) }},
	{counter, "repair_entries_added_total", "Entries that repairs brought.",
		func(m *peer.Metrics) float64 { return float64(m.EntriesAdded) }},
	{counter, "repair_entries_removed_total", "Entries that repairs removed.",
		func(m *peer.Metrics) float64 { return float64(m.EntriesRemoved) }},
	{gauge, "repairs_served", "Repairs of other peers that are served.",
		func(m *peer.Metrics) float64 { return float64(m.RepairsServed) }},

	{gauge, "log_bytes", "Size of the log of deltas.",
		func(m *peer.Metrics) float64 { return float64(m.LogBytes) }},
	{gauge, "log_records", "Records of the log of deltas, one a commit group.",
		func(m *peer.Metrics) float64 { return float64(m.LogRecords) }},
	{gauge, "log_age_seconds", "Age of the oldest record of the log of deltas.",
		func(m *peer.Metrics) float64 {
			if m.LogAge == 0 {
				return unknown
			}
			return m.LogAge.Seconds()
		}},

	{gauge, "commit_queue_length", "Transactions and frames that wait for their turn.",
		func(m *peer.Metrics) float64 { return float64(m.Queue) }},
	{gauge, "clears_sweeping", "Deletes whose cells are still removed from the disk.",
		func(m *peer.Metrics) float64 { return float64(m.Sweeping) }},

	{gauge, "keys", "Keys.",
		func(m *peer.Metrics) float64 { return total(m, func(s peer.SpaceStatus) int { return s.Keys }) }},
	{gauge, "cells", "Cells: elements, fields and values.",
		func(m *peer.Metrics) float64 { return total(m, func(s peer.SpaceStatus) int { return s.Cells }) }},
	{gauge, "store_bytes", "What the store takes on its disk.",
		func(m *peer.Metrics) float64 { return float64(m.StoreBytes) }},
	{gauge, "disk_free_bytes", "What is free on the store's disk.",
		func(m *peer.Metrics) float64 {
			if m.MinFreeBytes == 0 {
				return unknown // in memory
			}
			return float64(m.FreeBytes)
		}},
	{gauge, "disk_min_free_bytes", "Free space below which writes are refused.",
		func(m *peer.Metrics) float64 { return float64(m.MinFreeBytes) }},

	{gauge, "clock_wrong", "Whether most members' clocks say that this host's is off.",
		func(m *peer.Metrics) float64 { return truth(m.ClockWrong) }},
	{counter, "clock_not_adopted_total", "Times in deltas that were too far ahead.",
		func(m *peer.Metrics) float64 { return float64(m.NotAdopted) }},
}

// spaceFigures are labelled with the space's name.
var spaceFigures = []figure[*peer.SpaceStatus]{
	{gauge, "space_ready", "Whether the space has caught up and takes writes.",
		func(s *peer.SpaceStatus) float64 { return truth(s.Ready) }},
	{gauge, "space_keys", "Keys of the space.", func(s *peer.SpaceStatus) float64 { return float64(s.Keys) }},
	{gauge, "space_cells", "Cells of the space.", func(s *peer.SpaceStatus) float64 { return float64(s.Cells) }},
	{gauge, "space_dots", "Mutations of the space that are here.",
		func(s *peer.SpaceStatus) float64 { return float64(s.Mutations) }},
	{gauge, "space_neighbours", "Members with which the space is exchanged now.",
		func(s *peer.SpaceStatus) float64 { return float64(s.Neighbours) }},
	{gauge, "space_forks", "Replicas of the space whose mutations were issued twice.",
		func(s *peer.SpaceStatus) float64 { return float64(len(s.Forks)) }},
	{gauge, "space_unchecked_ratio", "Part of the space's data that was not read yet since the peer was opened, to check it.",
		func(s *peer.SpaceStatus) float64 { return s.Unchecked }},
	{gauge, "space_repairing", "Whether the space is being repaired here.",
		func(s *peer.SpaceStatus) float64 { return truth(s.Repairing != nil) }},
	{gauge, "space_repair_ratio", "Part of its source's cells that a repair of the space has, if it fetches all.",
		func(s *peer.SpaceStatus) float64 {
			if s.Repairing == nil || s.Repairing.Of == 0 {
				return unknown
			}
			return float64(s.Repairing.Cells) / float64(s.Repairing.Of)
		}},
	{gauge, "space_held_log_bytes", "Log that cannot be cut before the damaged space is rebuilt; 0 if it is whole.",
		func(s *peer.SpaceStatus) float64 { return float64(s.HeldLogBytes) }},
	{counter, "space_deltas_total", "Deltas of the space that were written, of this peer and of others.",
		func(s *peer.SpaceStatus) float64 { return float64(s.Deltas) }},
	{counter, "space_sent_bytes_total", "Bytes of the space sent to members.",
		func(s *peer.SpaceStatus) float64 { return float64(s.BytesSent) }},
	{counter, "space_received_bytes_total", "Bytes of the space received from members.",
		func(s *peer.SpaceStatus) float64 { return float64(s.BytesReceived) }},
}

// memberFigures are labelled with the member's name and peer id.
var memberFigures = []figure[*peer.Member]{
	{gauge, "member_alive", "Whether the member answers probes.",
		func(m *peer.Member) float64 { return truth(m.Alive) }},
	{gauge, "member_linked", "Whether a stream to the member is open.",
		func(m *peer.Member) float64 { return truth(m.Linked) }},
	{gauge, "member_behind_dots", "Mutations that are here and not at the member.",
		func(m *peer.Member) float64 { return known(m.TheyLack) }},
	{gauge, "member_ahead_dots", "Mutations that are at the member and not here.",
		func(m *peer.Member) float64 { return known(m.WeLack) }},
	{gauge, "member_rtt_seconds", "Round trip to the member, smoothed.",
		func(m *peer.Member) float64 { return known(m.RTTms) / 1000 }},
	{gauge, "member_clock_offset_seconds", "How far the member's clock is ahead.",
		func(m *peer.Member) float64 { return known(m.ClockOffsetMs) / 1000 }},
}

var redisFigures = []figure[Frontend]{
	{gauge, "redis_clients", "Connected Redis clients.",
		func(f Frontend) float64 { return float64(f.Clients) }},
	{counter, "redis_connections_total", "Redis clients that were served.",
		func(f Frontend) float64 { return float64(f.Accepted) }},
	{counter, "redis_connections_refused_total", "Redis clients beyond the limit.",
		func(f Frontend) float64 { return float64(f.Refused) }},
	{gauge, "redis_held_bytes", "Memory that Redis clients hold, without little ones.",
		func(f Frontend) float64 { return float64(f.Held) }},
	{counter, "redis_clients_evicted_total", "Redis clients closed for the memory that they held.",
		func(f Frontend) float64 { return float64(f.Evicted) }},
	{counter, "redis_clients_unread_total", "Redis clients closed because they took no replies.",
		func(f Frontend) float64 { return float64(f.Unread) }},
	{counter, "redis_slow_commands_total", "Redis commands that took longer than --slow-log.",
		func(f Frontend) float64 { return float64(f.Slow) }},
}

// peer sends the figures of a peer.
func (s sink) peer(m *peer.Metrics) {
	for _, f := range peerFigures {
		s.send(f.kind, f.name, f.help, f.value(m))
	}
	s.times("commit_seconds", "How long commit groups took to be run and written.",
		latency.Counts(m.CommitTimes))
	s.times("sync_seconds", "How long fsyncs took, beside the commits.",
		latency.Counts(m.SyncTimes))
	for _, t := range m.Traffic {
		layer := label{"layer", t.Layer}
		s.send(counter, "sent_bytes_total", "Bytes sent to members, by layer.", float64(t.Sent), layer)
		s.send(counter, "received_bytes_total", "Bytes received from members, by layer.",
			float64(t.Received), layer)
	}
	const messages = "Messages that were published on channels, by what became of them."
	s.send(counter, "messages_total", messages, float64(m.Messages.Published), label{"outcome", "published"})
	s.send(counter, "messages_total", messages, float64(m.Messages.Received), label{"outcome", "received"})
	s.send(counter, "messages_total", messages, float64(m.Messages.Forwarded), label{"outcome", "forwarded"})
	s.send(counter, "messages_total", messages, float64(m.Messages.Dropped), label{"outcome", "dropped"})
	const offered = "Deltas that members sent, by what became of them."
	s.send(counter, "deltas_received_total", offered, float64(m.Offered.Applied), label{"outcome", "applied"})
	s.send(counter, "deltas_received_total", offered, float64(m.Offered.Copies), label{"outcome", "copy"})
	s.send(counter, "deltas_received_total", offered, float64(m.Offered.Refused), label{"outcome", "refused"})
	for id := range peer.ProblemIDs() {
		wrong := slices.ContainsFunc(m.Problems, func(p peer.Problem) bool { return p.ID == id })
		s.send(gauge, "problem", "Whether there is a problem of this kind: see docs/operations.md.", truth(wrong), label{"id", id})
	}
	for i := range m.Spaces {
		space := &m.Spaces[i]
		for _, f := range spaceFigures {
			s.send(f.kind, f.name, f.help, f.value(space), label{"space", space.Space})
		}
	}
	for i := range m.Members {
		member := &m.Members[i]
		for _, f := range memberFigures {
			s.send(f.kind, f.name, f.help, f.value(member),
				label{"name", member.Name}, label{"peer_id", member.PeerID})
		}
	}
}

// redis sends the figures of the Redis server.
func (s sink) redis(f Frontend) {
	for _, figure := range redisFigures {
		s.send(figure.kind, figure.name, figure.help, figure.value(f))
	}
	for _, command := range slices.Sorted(maps.Keys(f.Times)) {
		s.times("redis_command_seconds", "How long Redis commands took, by command.", f.Times[command],
			label{"command", command})
	}
}

// http sends the figures of the HTTP server.
func (s sink) http(f Frontend) {
	s.send(counter, "http_slow_requests_total", "HTTP requests that took longer than --slow-log.",
		float64(f.Slow))
	for _, route := range slices.Sorted(maps.Keys(f.Times)) {
		s.times("http_request_seconds", "How long HTTP requests took until they were answered, by route.",
			f.Times[route], label{"route", route})
	}
}

// unknown is the value of a figure that is not known now: no sample is sent of it.
var unknown = math.NaN()

func known[T uint64 | float64](n *T) float64 {
	if n == nil {
		return unknown
	}
	return float64(*n)
}

func quarantined(m *peer.Metrics) int {
	peers := map[string]bool{}
	for _, s := range m.Spaces {
		for _, f := range s.Forks {
			for _, id := range f.There {
				peers[id] = true
			}
		}
	}
	return len(peers)
}

// total adds up what the spaces have.
func total(m *peer.Metrics, of func(peer.SpaceStatus) int) (n float64) {
	for _, s := range m.Spaces {
		n += float64(of(s))
	}
	return n
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
