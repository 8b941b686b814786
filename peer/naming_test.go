package peer

import (
	"net/netip"
	"testing"
)

func TestAWholeNameComesBeforePartsOfIds(t *testing.T) {
	fitting := map[string]string{"12D3abcdef": "oslo", "12D3ghabcdef": "abcdef", "x": "two", "y": "two"}
	for which, want := range map[string]string{"abcdef": "12D3ghabcdef", "12D3abcdef": "12D3abcdef", "two": "", "bcdef": ""} {
		if got := named(fitting, which); got != want {
			t.Errorf("%s is %q, want %q", which, got, want)
		}
	}
}

// TestANameThatIsNotKnownForAMomentMovesNoHost asks for a name that never is (RFC 6761).
func TestANameThatIsNotKnownForAMomentMovesNoHost(t *testing.T) {
	a := &addresses{advertise: "host.invalid"}
	was := netip.MustParseAddr("192.0.2.7")
	if own, sure := a.own(t.Context(), nil, was); own != was || sure {
		t.Errorf("others are told %v, for sure: %v", own, sure)
	}
}

func TestANameToAdvertiseThatIsNotKnownIsToldInTheLog(t *testing.T) {
	t.Parallel()
	log := &memory{}
	cfg := newCluster(t).config(t.TempDir())
	cfg.Advertise, cfg.Logger = "host.invalid", log.logger()
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if !log.says("the name to advertise is not known here") || !log.says("name=host.invalid") {
		t.Error("the log does not say so")
	}
}
