package members

import "testing"

func TestAKeyIsReplacedStepByStepWithoutASplit(t *testing.T) {
	old, renewed := config(0).Key, [32]byte{'n', 'e', 'w'}
	a := open(t, config(0))
	joining := config(1)
	joining.Join = []string{a.Addr()}
	b := open(t, joining)
	eventually(t, "they see each other", func() bool { return alive(a) != "" && alive(b) != "" })
	understand := func(when string) {
		t.Helper()
		for _, pair := range [][2]*Members{{a, b}, {b, a}} {
			if _, err := pair[0].list.Join([]string{pair[1].Addr()}); err != nil {
				t.Errorf("%s they do not understand each other: %v", when, err)
			}
		}
		eventually(t, when+" both take the other for alive", func() bool { return alive(a) != "" && alive(b) != "" })
	}
	for _, step := range []struct {
		when     string
		inUse    [32]byte
		accepted [][32]byte
	}{
		{"while one accepts the new key", old, [][32]byte{renewed}},
		{"while one uses the new key", renewed, [][32]byte{old}},
		{"while one accepts the new key alone", renewed, nil},
	} {
		for _, m := range []*Members{b, a} {
			if err := m.SetKeys(step.inUse, step.accepted...); err != nil {
				t.Fatal(err)
			}
			understand(step.when)
		}
	}
	late := config(2)
	late.Join = []string{a.Addr()}
	stranger := open(t, late)
	if _, err := stranger.list.Join([]string{a.Addr()}); err == nil {
		t.Error("a host with the old key has joined")
	}
	late = config(3)
	late.Key, late.Accepted = old, [][32]byte{renewed}
	behind := open(t, late)
	if _, err := behind.list.Join([]string{a.Addr()}); err == nil {
		t.Error("a host that uses the old key has joined")
	}
	late = config(4)
	late.Key, late.Accepted = renewed, [][32]byte{old}
	ahead := open(t, late)
	if _, err := ahead.list.Join([]string{a.Addr()}); err != nil {
		t.Errorf("a host with both keys cannot join: %v", err)
	}
}
