package lab

import (
	"io"
	"net"
	"testing"
)

// echo answers with what it is sent.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestAProxyCountsWhatItCarriesAndCanBeCut(t *testing.T) {
	p, err := new(Lab).Proxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	say := func() error {
		c, err := net.Dial("tcp", p.Addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 5))
		return err
	}
	if err := say(); err != nil || p.Bytes.Load() != 10 || p.Turns.Load() != 2 {
		t.Errorf("%v, %d bytes, %d turns", err, p.Bytes.Load(), p.Turns.Load())
	}
	p.Cut(true)
	if say() == nil {
		t.Error("a cut proxy answers")
	}
	p.Cut(false)
	if err := say(); err != nil {
		t.Errorf("a healed proxy: %v", err)
	}
}
