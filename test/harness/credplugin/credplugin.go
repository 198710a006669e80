// Package credplugin is a plugin of the kubelet's credential provider protocol for tests:
// a real program, which does what a file says. Start at New.
package credplugin

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	plugin "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
)

// Script is what the program does when it is asked.
type Script struct {
	Stdout, Stderr string
	Exit           int
	// Flood writes that many bytes to stdout before all else. Leave leaves a child that
	// sleeps for ever with stdout open; Hang waits for it.
	Flood       int
	Leave, Hang bool
}

// Plugin is the program with its configuration.
type Plugin struct {
	t testing.TB
	// Config is the file for the controller, Dir the folder of the program.
	Config, Dir, script string
}

// New builds the program and writes a configuration with it as the provider of image
// patterns.
func New(t testing.TB, match ...string) *Plugin {
	t.Helper()
	dir := t.TempDir()
	p := &Plugin{t: t, Dir: dir, Config: filepath.Join(dir, "config.yaml"), script: filepath.Join(dir, "script.json")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "test-provider"), "github.com/d8-registry/registry/test/harness/credplugin/plugin")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	p.write(p.Config, fmt.Appendf(nil, `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: test-provider
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    matchImages: ["%s"]
    defaultCacheDuration: 1h
    args: [get-credentials]
    env: [{name: PLUGIN_SCRIPT, value: %q}]
`, strings.Join(match, `", "`), p.script))
	return p
}

// Does sets what the program does from now on.
func (p *Plugin) Does(s Script) {
	data, err := json.Marshal(s)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(p.script, data)
}

// Gives lets it give credentials for a registry, or a pattern of registries.
func (p *Plugin) Gives(registry, username, password string, life time.Duration) {
	p.Does(Script{Stdout: Answer(registry, username, password, life)})
}

// Answer is the answer of a plugin.
func Answer(registry, username, password string, life time.Duration) string {
	return Answers(map[string]plugin.AuthConfig{registry: {Username: username, Password: password}}, life)
}

// Answers is the answer of a plugin that gives credentials for several registries.
func Answers(auth map[string]plugin.AuthConfig, life time.Duration) string {
	response := plugin.CredentialProviderResponse{CacheKeyType: plugin.RegistryPluginCacheKeyType, CacheDuration: &metav1.Duration{Duration: life}, Auth: auth}
	response.APIVersion, response.Kind = plugin.SchemeGroupVersion.String(), "CredentialProviderResponse"
	data, err := json.Marshal(response)
	if err != nil {
		panic(err) // such a value has an encoding
	}
	return string(data)
}

// Asked are the requests that the program has had, as it got them.
func (p *Plugin) Asked() []string {
	data, err := os.ReadFile(p.script + ".asked")
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// write replaces a file at once: the program may read it at any time.
func (p *Plugin) write(file string, data []byte) {
	p.t.Helper()
	next := file + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		p.t.Fatal(err)
	}
}
