package containerd_test

import (
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// nvidia is a drop-in as NVIDIA's toolkit writes it.
func nvidia(v containerdtest.Version, settings string) string {
	table := `plugins."io.containerd.grpc.v1.cri"`
	text := "version = 2\n"
	if !v.One() {
		table, text = `plugins."io.containerd.cri.v1.runtime"`, "version = 3\n"
	}
	return text + "[" + table + ".containerd]\n" + settings + "[" + table + ".containerd.runtimes.nvidia]\n  runtime_type = \"io.containerd.runc.v2\"\n"
}

// importing is the main configuration with an import and more.
func importing(c *containerdtest.Containerd, more string) string {
	return "imports = ['@/conf.d/*.toml']\n" + c.Base() + more
}

// TestRuntimeLost: a drop-in of which 1.x takes the table instead of the main
// file's, and with it the default runtime away, keeps the CRI plugin from loading.
// That is named, and not what a switch would need besides; 2.x merges both.
func TestRuntimeLost(t *testing.T) {
	t.Parallel()
	for _, version := range containerdtest.Versions() {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			c := containerdtest.NewVersion(t, version)
			table := `plugins."io.containerd.grpc.v1.cri"`
			if !version.One() {
				table = `plugins."io.containerd.cri.v1.runtime"`
			}
			runc := "[" + table + ".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n"
			c.Write(t, "conf.d/99-nvidia.toml", nvidia(version, ""))
			c.Main(t, importing(c, runc))
			if err := c.RestartService(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !version.One() {
				c.Ready(t)
				if facts := discover(t, dial(t, c.Socket), c); facts.Preflight != containerd.Ready || facts.WithoutCRI {
					t.Fatalf("%+v", facts)
				}
				return
			}
			facts := discover(t, dial(t, c.Socket), c)
			file := c.Dir + "/conf.d/99-nvidia.toml"
			if facts.Preflight != containerd.Unsupported || !facts.WithoutCRI || len(facts.Problems) == 0 || facts.Problems[0].File != file || facts.Problems[0].Line != 2 {
				t.Fatalf("%+v", facts)
			}
			for _, part := range []string{"without its CRI plugin, so that no pod can start: " + file + ":2 replaces the whole table of the CRI plugin", "containerd.runtimes.runc of " + c.ConfigFile, "repeat it in that file"} {
				if !strings.Contains(facts.Message, part) {
					t.Errorf("%q has no %q", facts.Message, part)
				}
			}
			if strings.Contains(facts.Message, "config_path") {
				t.Errorf("config_path is blamed: %q", facts.Message)
			}
			c.Write(t, "conf.d/99-nvidia.toml", nvidia(version, "")+runc)
			if err := c.RestartService(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.Ready(t) // what was said is enough
		})
	}
}

// TestNotTheReason: what is only in the way of a switch is not given as the
// reason for which the CRI plugin does not load.
func TestNotTheReason(t *testing.T) {
	t.Parallel()
	for _, version := range containerdtest.Versions() {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			c := containerdtest.NewVersion(t, version)
			// A snapshotter that is not there; preflight finds a mirror.
			c.Main(t, strings.Replace(c.Base(), `"native"`, `"nowhere"`, 1)+"["+c.RegistryTable()+".mirrors.'x.example.com']\nendpoint = ['https://m']\n")
			if err := c.RestartService(t.Context()); err != nil {
				t.Fatal(err)
			}
			client := dial(t, c.Socket)
			var facts containerd.Facts
			for deadline := time.Now().Add(20 * time.Second); !facts.WithoutCRI && time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
				facts = discover(t, client, c)
			}
			if facts.Preflight != containerd.Custom || !facts.WithoutCRI || !strings.Contains(facts.Message, "containerd's log says why. Besides, for a switch: ") {
				t.Errorf("%+v", facts)
			}
		})
	}
}

// TestBrokenForTheNextStart: files with which the next start would be without CRI
// forbid the restart that a switch would need.
func TestBrokenForTheNextStart(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "config_path = '@/certs.d'\n"} {
		c := containerdtest.NewVersion(t, containerdtest.V17)
		settings := "[" + c.RegistryTable() + "]\n" + path
		c.Main(t, importing(c, settings))
		client := c.Start(t)
		c.Write(t, "conf.d/99-nvidia.toml", nvidia(c.Version, "")+settings)
		facts := discover(t, client, c)
		const cause = "containerd.default_runtime_name is \"runc\", but no file has the table containerd.runtimes.runc"
		switch said := strings.Join(facts.Warnings, "\n"); {
		case path == "" && (facts.Preflight != containerd.Unsupported || !strings.Contains(facts.Message, cause)):
			t.Errorf("%+v", facts)
		case path != "" && (facts.Preflight != containerd.Ready || !strings.Contains(said, cause)):
			t.Errorf("%+v", facts)
		}
	}
}
