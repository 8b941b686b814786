package members

import (
	"crypto/ed25519"
	"testing"
)

func TestALabelOfAnotherHostSteersNoTerminal(t *testing.T) {
	cfg := config(0)
	cfg.Label = "os\x1b[2Jlo\n\u202eø\xff"
	own := metadata{format: metadataFormat, label: cfg.Label, key: cfg.PrivateKey.Public().(ed25519.PublicKey)}
	encoded, _ := own.sign(cfg.PrivateKey, cfg.ID, "127.0.0.1:1")
	m, _, _, err := decodeMetadata(encoded)
	if want := "os?[2Jlo??ø?"; m.label != want || err != nil {
		t.Errorf("read %q, %v; want %q", m.label, err, want)
	}
}
