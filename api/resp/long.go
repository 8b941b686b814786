package resp

import (
	"context"
	"errors"
	"iter"
	"time"
)

// A reply of many elements does not have to fit in memory. Its command begins as any other, and
// ends with errLong when it turns out to be long. Then it is executed again, alone, on a view of
// its own and by a goroutine, which sends what it has whenever that is MaxBatchOutput, and waits
// for the client to take it. Memory and disk keep what the view shows for as long: so the client
// has to take MaxBatchOutput within WriteTimeout, and is charged for the time that it takes.
// Within MULTI and in scripts a reply is made whole, and bounded by MaxReply.

// errLong is what a command returns whose reply turned out to be long.
var errLong = errors.New("to be sent as it is made")

// looksEvery is after how many elements that are counted it is seen whether that is still wanted.
const looksEvery = 1024

// errNotTaken ends a reply whose client has left, or was closed.
var errNotTaken = errors.New("the client takes no more of the reply")

// more is called between the elements of a reply that began at a place, once it is known how many
// there are or while that is counted. If there is much it sends it, or returns an error: that of
// call.run.
func (c *call) more(at int) error {
	size := len(c.out.buf) - at
	switch {
	case c.send != nil && !c.whole:
		if len(c.out.buf) >= MaxBatchOutput {
			return c.send()
		}
	case c.whole && c.looped && !c.inScript && size > maxQuickBytes:
		return errApart
	case !c.whole && !c.apart && (c.looped && size > maxQuickBytes || size > MaxBatchOutput):
		return errLong
	case size > MaxReply:
		return errReplyTooLarge
	}
	return nil
}

// listing replies with what write writes of each of some elements, and puts a header before it. n
// is how many there are, -1 if that is not known: if there are many they are counted first.
func listing[K, V any](
	c *call, n int, header func(at, n int), all iter.Seq2[K, V], write func(K, V),
) error {
	at, sends := len(c.out.buf), c.send != nil && !c.whole
	if sends {
		if n < 0 {
			n = 0
			for range all {
				if n++; n%looksEvery == 0 {
					if err := c.over(); err != nil {
						return err
					}
				}
			}
		}
		header(at, n)
	}
	written := 0
	for k, v := range all {
		write(k, v)
		written++
		if err := c.more(at); err != nil {
			return err
		}
	}
	switch {
	case !sends:
		header(at, written)
	case written != n:
		return errors.New("the reply has not as many elements as it should")
	}
	return nil
}

// over returns why nobody waits for a long reply any more, nil if somebody does.
func (b *batch) over() error {
	select {
	case <-b.ended:
		return context.Canceled
	default:
	}
	if b.client.evicted() {
		return errNotTaken
	}
	return nil
}

// pace is how many bytes of the replies the client has to take within WriteTimeout.
func (b *batch) pace() int {
	if b.sent {
		return MaxBatchOutput
	}
	return writeSize
}

// viewSize is what the client is charged for the view of a long reply, in bytes.
func (b *batch) viewSize() int {
	return int(min(b.waited.Seconds()*LongHold, MaxLongHold))
}

// sendPart sends what there is of a long reply, or drops it if the client wants none. What is
// waited for the client is no time of the command's, and others may look at many members meanwhile.
func (b *batch) sendPart() error {
	c, began := b.client, time.Now()
	if c.mute.mutes() {
		b.out.buf = b.out.buf[:b.call.began]
		return b.over()
	}
	<-c.server.scans
	b.sent = true
	var taken bool
	if s, ok := c.conn.(interface{ sendPart() bool }); ok {
		taken = s.sendPart()
	} else {
		taken = c.send(b)
	}
	b.out.buf = b.out.buf[:0]
	b.waited += time.Since(began)
	c.server.scans <- struct{}{}
	if !taken {
		return errNotTaken
	}
	return nil
}

// cutShort ends the connection after an error that comes when the beginning of its reply was sent.
func (b *batch) cutShort(err error) error {
	if err == nil || !b.sent {
		return err
	}
	b.client.quit = true
	b.out.buf = b.out.buf[:0]
	return nil
}
