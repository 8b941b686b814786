package peer

import "testing"

func TestNothingIsStableWhereNobodyElseIsKnownToHaveIt(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	count(t, a, 1)
	if m, err := a.Metrics(); err != nil || m.Stable != 0 {
		t.Errorf("alone, %d mutations are stable, %v", m.Stable, err)
	}
}

func TestMetricsCountWhatWasDone(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(), c.add()
	const writes = 20
	for range writes {
		count(t, a, 1)
	}
	if err := a.Update(t.Context(), func(*Tx) error { return errCrashed }); err == nil {
		t.Fatal("a transaction that fails succeeded")
	}
	c.converge(a, b)
	var here, there Metrics
	eventually(t, "each knows what the other has", func() bool {
		var err error
		if here, err = a.Metrics(); err != nil {
			t.Fatal(err)
		}
		if there, err = b.Metrics(); err != nil {
			t.Fatal(err)
		}
		return here.Stable == writes && there.Stable == writes && here.Traffic[0].Sent > 0
	})
	if here.Transactions != writes || here.Failed != 1 || here.CommitTimes.Total != here.Commits {
		t.Errorf("%d transactions, %d failed, %d of %d groups were timed", here.Transactions, here.Failed,
			here.CommitTimes.Total, here.Commits)
	}
	if d := there.Offered; d.Applied != writes || d.Refused != 0 {
		t.Errorf("of %d deltas the other was sent %+v", writes, d)
	}
	if here.LogRecords != here.Commits || here.LogAge <= 0 || here.FreeBytes == 0 {
		t.Errorf("the log has %d records of %v, and %d bytes are free", here.LogRecords, here.LogAge,
			here.FreeBytes)
	}
	sent, total := map[string]uint64{}, uint64(0)
	for _, layer := range here.Traffic {
		sent[layer.Layer] = layer.Sent
		total += layer.Sent
	}
	if sent["push"] == 0 || sent["vector"] == 0 || sent["repair"] != 0 || total < here.BytesSent {
		t.Errorf("sent by layer %v, in all %d", sent, here.BytesSent)
	}
}
