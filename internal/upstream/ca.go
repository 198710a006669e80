package upstream

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// parseCA accepts PEM certificates with any text around them, as bundles have,
// and returns the certificates alone, each once.
func parseCA(s string, scheme Scheme) (string, error) {
	wrong := func(format string, args ...any) error {
		return &FieldError{Field: "ca", Want: fmt.Sprintf(format, args...)}
	}
	switch {
	case strings.TrimSpace(s) == "":
		return "", nil
	case scheme == HTTP:
		return "", wrong("CA is not allowed when scheme is 'HTTP'.")
	case len(s) > MaxCA:
		return "", wrong("longer than %d KiB; give only the certificates that this registry needs.", MaxCA>>10)
	}
	var out strings.Builder
	seen := map[string]bool{}
	blocks := 0
	for rest := []byte(s); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks++
		if block.Type != "CERTIFICATE" {
			return "", wrong("block %d is a %s; expected PEM certificates only.", blocks, quoted(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", wrong("certificate %d: %v", blocks, err)
		}
		if seen[string(block.Bytes)] {
			continue
		}
		seen[string(block.Bytes)] = true
		out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	}
	// The decoder skips a broken block and says nothing.
	if begun := strings.Count(s, "-----BEGIN "); blocks == 0 || begun != blocks {
		return "", wrong("expected PEM certificates; %d of %d blocks can be read.", blocks, begun)
	}
	return out.String(), nil
}
