package storetest

import (
	"errors"
	"testing"

	"github.com/peerd/peerd/store"
)

// Divide returns two owners' parts of a store.
type Divide func(whole store.Store) (part, beside store.Store)

// DivideLog returns two owners' parts of a log.
type DivideLog func(whole store.Log) (part, beside store.Log)

// RunDivided tests a part of a store: alone, and while another one is written to with the same
// keys.
func RunDivided(t *testing.T, open func(t *testing.T) store.Store, divide Divide) {
	for _, busy := range []bool{false, true} {
		name := "alone"
		if busy {
			name = "beside another"
		}
		t.Run(name, func(t *testing.T) {
			Run(t, func(t *testing.T) store.Store {
				whole := open(t)
				part, beside := divide(whole)
				if !busy {
					return &partOfStore{part, nil, whole}
				}
				return &partOfStore{part, beside, whole}
			})
		})
	}
}

// partOfStore is a part that is closed with the whole, and writes to the one beside it as well.
type partOfStore struct {
	store.Store
	beside store.Store // nil if there is none
	whole  store.Store
}

// Commit writes other values under the batch's keys, and of what it deletes, beside it.
func (p *partOfStore) Commit(b *store.Batch, sync bool) error {
	if p.beside != nil && b.Bytes() < 1<<20 {
		other := &store.Batch{}
		for _, op := range b.Ops {
			other.Set(op.Key, []byte("another's"))
		}
		if err := p.beside.Commit(other, false); err != nil && b.Fits() && !errors.Is(err, store.ErrClosed) {
			return err
		}
	}
	return p.Store.Commit(b, sync)
}

func (p *partOfStore) Close() error { return errors.Join(p.Store.Close(), p.whole.Close()) }

// RunDividedLog tests a part of a log: alone, and while records are appended to another one.
func RunDividedLog(t *testing.T, medium func(t *testing.T) LogMedium, divide DivideLog) {
	for _, busy := range []bool{false, true} {
		name := "alone"
		if busy {
			name = "beside another"
		}
		t.Run(name, func(t *testing.T) {
			RunLog(t, func(t *testing.T) LogMedium {
				return &divided{LogMedium: medium(t), divide: divide, busy: busy}
			})
		})
	}
}

// divided is a medium whose log is a part of another medium's.
type divided struct {
	LogMedium
	divide DivideLog
	busy   bool
	whole  store.Log
}

func (m *divided) Open() (store.Log, error) {
	whole, err := m.LogMedium.Open()
	if err != nil {
		return nil, err
	}
	m.whole = whole
	part, beside := m.divide(whole)
	return &partOfLog{Log: part, beside: beside, whole: whole, busy: m.busy}, nil
}

func (m *divided) LosePower(_ store.Log, keep int64) error {
	return m.LogMedium.LosePower(m.whole, keep)
}

func (m *divided) Flip(_ store.Log, p store.Position, i int) error {
	return m.LogMedium.Flip(m.whole, p, i)
}

func (m *divided) SetRoom(_ store.Log, bytes int64) { m.LogMedium.SetRoom(m.whole, bytes) }

func (m *divided) Fail(store.Log) { m.LogMedium.Fail(m.whole) }

func (m *divided) Shared() bool { return m.busy }

// partOfLog is a part that is closed with the whole. What is beside it needs no more than it does.
type partOfLog struct {
	store.Log
	beside, whole store.Log
	busy          bool
}

// Append appends something else beside it, before and behind.
func (p *partOfLog) Append(records ...[]byte) (first, next store.Position, err error) {
	if !p.busy {
		return p.Log.Append(records...)
	}
	p.beside.Append(filled(1, len(records)*7)) // whether it fails the part's own does too
	first, next, err = p.Log.Append(records...)
	p.beside.Append([]byte("another's"), nil)
	return first, next, err
}

// TryAppend does so too.
func (p *partOfLog) TryAppend(records ...[]byte) (first, next store.Position, err error) {
	if p.busy {
		p.beside.TryAppend([]byte("another's"))
	}
	return p.Log.TryAppend(records...)
}

func (p *partOfLog) DropBefore(at store.Position) error {
	if err := p.beside.DropBefore(at); err != nil && !errors.Is(err, store.ErrClosed) {
		return err
	}
	return p.Log.DropBefore(at)
}

func (p *partOfLog) Close() error {
	return errors.Join(p.Log.Close(), p.beside.Close(), p.whole.Close())
}
