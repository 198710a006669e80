package controller

import (
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/stores"
)

// TestConfigIsRefused: a wrong value is refused at the start, with flag and value.
func TestConfigIsRefused(t *testing.T) {
	t.Parallel()
	for words, change := range map[string]func(*Config){
		"":                               func(*Config) {},
		"--image must say":               func(c *Config) { c.Image = "" },
		"--agent-port is 80, and must":   func(c *Config) { c.AgentPort = 80 },
		"--agent-port is 70000, and":     func(c *Config) { c.AgentPort = 70000 },
		"--restarts-at-once is 0, and":   func(c *Config) { c.Settings.RestartsAtOnce = 0 },
		"--agents-at-once is -1, and":    func(c *Config) { c.AgentsAtOnce = -1 },
		`--scripts is "no", and must be`: func(c *Config) { c.Scripts = "no" },
		`--platform-selector "a=b=c"`:    func(c *Config) { c.PlatformSelector = "a=b=c" },
		`--platform-namespaces (value platformNamespaces): "d8-*" `: func(c *Config) { c.PlatformNamespaces = "kube-system,d8-*" },
		`--platform-namespaces (value platformNamespaces): "" is`:   func(c *Config) { c.PlatformNamespaces = "kube-system," },
		"--store-port is 80, and must":                              func(c *Config) { c.Stores.Port = 80 },
	} {
		c := Config{Config: component.Config{Image: ":v1", AgentPort: 5001}, PlatformSelector: "heritage=deckhouse", Stores: stores.DefaultConfig()}
		c.Settings.RestartsAtOnce = 1
		change(&c)
		_, err := c.validate()
		if (err == nil) != (words == "") || err != nil && (!strings.HasPrefix(err.Error(), words) || strings.Contains(err.Error(), "%!")) {
			t.Errorf("got %v, want %q", err, words)
		}
	}
}
