package credprovider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/credplugin"
)

const (
	image  = "registry.example.com/d8/module"
	secret = "PASSWORD-that-nobody-may-see"
)

// load is the one provider of a configuration.
func load(t *testing.T, p *credplugin.Plugin) Provider {
	t.Helper()
	providers, err := Load(p.Config, p.Dir)
	if err != nil || len(providers) != 1 {
		t.Fatal(providers, err)
	}
	return providers[0]
}

// TestPlugin is what is made of a plugin's answer, and of all that is wrong with it.
// Nothing that it says is in an error.
func TestPlugin(t *testing.T) {
	t.Parallel()
	good := credplugin.Answer("*.example.com", "AWS", secret, 12*time.Hour)
	other := func(old, with string) credplugin.Script {
		return credplugin.Script{Stdout: strings.Replace(good, old, with, 1)}
	}
	plugin := credplugin.New(t, "*.example.com")
	provider := load(t, plugin)
	for _, row := range []struct {
		name   string
		does   credplugin.Script
		life   time.Duration
		wanted string // of the error
	}{
		{"good", credplugin.Script{Stdout: good}, 12 * time.Hour, ""},
		{"chatty", credplugin.Script{Stdout: good, Stderr: strings.Repeat("x", 1<<20)}, 12 * time.Hour, ""},
		{"no cacheDuration", other(`"cacheDuration":"12h0m0s",`, ""), time.Hour, ""},
		{"not to be cached", other("12h0m0s", "0s"), 0, ""},
		{"fails, with the secret on stderr", credplugin.Script{Stderr: secret, Exit: 1}, 0, "ends with exit status 1"},
		{"says nothing", credplugin.Script{}, 0, "no JSON"},
		{"garbage", credplugin.Script{Stdout: "{" + secret}, 0, "no JSON"},
		{"too much", credplugin.Script{Stdout: good, Flood: 1 << 20}, 0, "more than 65536 bytes"},
		{"another apiVersion", other("/v1\"", "/v1alpha1\""), 0, "another apiVersion"},
		{"another kind", other("CredentialProviderResponse", secret), 0, "another apiVersion or kind"},
		{"another host", other("*.example.com", "evil.example.org"), 0, "no credentials for " + image + "; it gives some for 1 other name(s)"},
		{"no credentials", credplugin.Script{Stdout: `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse"}`}, 0, "0 other name(s)"},
		{"an empty password", other(secret, ""), 0, "empty user name or password"},
		{"a user name with a colon", other("AWS", "A:"+secret), 0, "username: must not contain ':'"},
		{"a password of 5 KiB", other(secret, strings.Repeat(secret, 200)), 0, "password: longer than 4096 bytes"},
		{"a negative life", other("12h0m0s", "-1h"), 0, "negative cacheDuration"},
	} {
		plugin.Does(row.does)
		got, err := provider.ask(t.Context(), image, nil)
		switch {
		case row.wanted == "" && (err != nil || got.Username != "AWS" || got.Password != secret || got.life != row.life):
			t.Errorf("%s: %v, good for %v; %v", row.name, got.Credentials, got.life, err)
		case row.wanted != "" && (err == nil || !strings.Contains(err.Error(), row.wanted) || strings.Contains(err.Error(), secret)):
			t.Errorf("%s: %v, want %q", row.name, err, row.wanted)
		}
	}
	if asked := plugin.Asked(); !strings.Contains(asked[0], `"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"`+image+`"`) {
		t.Errorf("it was asked %s", asked[0])
	}
	provider.path += "-not"
	if _, err := provider.ask(t.Context(), image, nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a plugin that is not there: %v", err)
	}
}

// TestAPluginThatHangsIsEnded with the child that holds its output open, and so is a child
// that it leaves.
func TestAPluginThatHangsIsEnded(t *testing.T) {
	t.Parallel()
	plugin := credplugin.New(t, "*.example.com")
	provider := load(t, plugin)
	plugin.Does(credplugin.Script{Hang: true})
	provider.limit = 2 * time.Second
	begun := time.Now()
	_, err := provider.ask(t.Context(), image, nil)
	if err == nil || !strings.Contains(err.Error(), "does not answer within 2s") || time.Since(begun) > time.Minute {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	provider.limit = time.Minute
	plugin.Does(credplugin.Script{Leave: true})
	if _, err := provider.ask(t.Context(), image, nil); err == nil {
		t.Error("an answer that nobody has ended is taken")
	}
	for deadline := time.Now().Add(10 * time.Second); len(children(t, plugin.Dir)) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("left are %v", children(t, plugin.Dir))
		}
	}
}

// children are processes that have the plugin's script in their environment.
func children(t *testing.T, dir string) (left []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if env, err := os.ReadFile(file); err == nil && strings.Contains(string(env), "PLUGIN_SCRIPT="+dir) {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			left = append(left, string(name))
		}
	}
	return left
}

// TestDiagnose shows people what a plugin says, and not the password.
func TestDiagnose(t *testing.T) {
	t.Parallel()
	plugin := credplugin.New(t, "*.example.com")
	provider := load(t, plugin)
	tell := func(does credplugin.Script, image string) (string, error) {
		plugin.Does(does)
		out, err := Diagnose(t.Context(), []Provider{provider}, image)
		if strings.Contains(out, secret) || strings.Contains(out, "\x1b") {
			t.Errorf("it shows %q", out)
		}
		return out, err
	}
	good := credplugin.Script{Stdout: credplugin.Answer("registry.example.com", "AWS", secret, time.Hour), Stderr: "token " + secret + "\x1b[2J"}
	if out, err := tell(good, image); err != nil || !strings.Contains(out, "user AWS, a password of 28 bytes, good for 1h0m0s") || !strings.Contains(out, "token redacted") {
		t.Errorf("%s\n%v", out, err)
	}
	if out, err := tell(credplugin.Script{Stderr: "AccessDenied\x1b[2J", Exit: 1}, image); err == nil || !strings.Contains(out, "exit status 1") || !strings.Contains(out, "AccessDenied") {
		t.Errorf("%s\n%v", out, err)
	}
	refused := credplugin.Script{Stdout: credplugin.Answer("elsewhere.example.org", "AWS", secret, time.Hour), Stderr: "token " + secret}
	if out, err := tell(refused, image); err == nil || !strings.Contains(out, "token redacted") {
		t.Errorf("%s\n%v", out, err)
	}
	long := good
	long.Stderr = strings.Repeat(".", mostStderr-len(secret)+1) + secret
	if out, err := tell(long, image); err != nil || strings.Contains(out, secret[:len(secret)-1]) {
		t.Errorf("%s\n%v", out, err)
	}
	if out, err := tell(good, "docker.io/team/x"); err == nil || out != "" {
		t.Errorf("%s\n%v", out, err)
	}
}
