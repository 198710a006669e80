package gateway

import (
	"flag"
	"testing"
)

// TestVerbose: what docs/settings.md gives as an example for the proxy's arguments.
func TestVerbose(t *testing.T) {
	t.Parallel()
	var cfg Config
	flags := flag.NewFlagSet("registry-proxy", flag.ContinueOnError)
	cfg.RegisterFlags(flags)
	if err := flags.Parse([]string{"--verbose"}); err != nil || !cfg.Verbose {
		t.Errorf("%+v %v", cfg, err)
	}
}
