package matrix_test

import (
	"os"
	"strings"
	"testing"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

const k0s = "etc/k0s/"

// gpu is a drop-in as NVIDIA's toolkit writes it. On 1.x its table is taken
// instead of the main file's, so that it has to repeat all that a pod needs here.
func gpu(v containerdtest.Version) string {
	if !v.One() {
		return "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\n  default_runtime_name = \"nvidia\"\n" +
			"[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n  runtime_type = \"io.containerd.runc.v2\"\n"
	}
	return `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "@/cni"
  bin_dir = "@/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
  default_runtime_name = "nvidia"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
`
}

// foreign are nodes on which another program writes containerd's files.
func foreign() []scenario {
	setPath := func(name string) func(t *testing.T, c *cell) {
		return func(t *testing.T, c *cell) {
			c.rewrite(t, name, func(text string) (string, bool) {
				return text + strings.ReplaceAll(c.texts.Replace("[REGISTRY]\n  config_path = \"@/certs.d\"\n"), "@", c.containerd.Dir), true
			})
			c.restart(t)
		}
	}
	return []scenario{
		{
			name: "k0s layout", at: k0s + "containerd.toml", head: "# k0s_managed=true\n",
			want: same(want{preflight: "Unsupported", effective: "certs.d", words: []string{
				"config_path is not set", "@/etc/k0s/containerd.toml is written anew whenever k0s starts", "in @/etc/k0s/containerd.d, such as registry.toml, and restart k0s",
			}}),
			repair: setPath(k0s + "containerd.toml"), // what k0s makes of the operator's drop-in
		},
		{
			name: "NVIDIA's drop-in", head: "imports = [\"@/conf.d/*.toml\"]\n", main: "[REGISTRY]\n  config_path = \"@/certs.d\"\n",
			files: map[string]string{"conf.d/99-nvidia.toml": "GPU"},
			want: func(v containerdtest.Version) want {
				if !v.One() {
					return want{preflight: "Ready", effective: "certs.d"}
				}
				return want{preflight: "Unsupported", effective: "certs.d", words: []string{
					"@/conf.d/99-nvidia.toml:2 replaces the whole table of the CRI plugin", "config_path of @/config.toml has no effect",
					"set config_path = \"@/certs.d\" in @/conf.d/99-nvidia.toml and restart containerd",
				}}
			},
			repair: setPath("conf.d/99-nvidia.toml"),
		},
	}
}

// TestMainFileIsWrittenAnew: a program that makes the main file at each start,
// of which nobody knows, costs one restart. The node says what happens, also to
// the next agent, until the operator sets config_path where that program takes it.
func TestMainFileIsWrittenAnew(t *testing.T) {
	t.Parallel()
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			c := newCell(t, v, scenario{name: "generated"})
			template, err := os.ReadFile(c.containerd.ConfigFile)
			if err != nil {
				t.Fatal(err)
			}
			c.containerd.BeforeStart = func() error { return os.WriteFile(c.containerd.ConfigFile, template, 0o600) }
			approved := c.node.Approve()
			failed := func(s registryv1alpha1.RegistryNodeStatus) bool {
				return s.Restart != nil && s.Restart.Phase == registryv1alpha1.RestartFailed
			}
			c.node.Publish(direct(c.a))
			for range 2 {
				stop := c.node.Start()
				s := c.node.Until("the end of the change", failed)
				for _, words := range []string{c.containerd.ConfigFile + " was written anew when containerd was restarted", "set config_path = \"" + c.containerd.Dir + "/registry.d\""} {
					if !strings.Contains(s.Message, words) || s.Generation != 0 {
						t.Errorf("%+v, want %q", s, words)
					}
				}
				c.undisturbed(t, "after the change", 1)
				stop()
			}
			if got := approved.IDs(); len(got) != 1 {
				t.Errorf("approved: %v", got)
			}
			c.unchanged(t, "after the change", func(string) bool { return false })
			template = append(template, c.texts.Replace("[REGISTRY]\n  config_path = \""+c.containerd.Dir+"/certs.d\"\n")...)
			c.restart(t)
			c.before["config.toml"] = file{string(template), 0o600}
			c.node.Start()
			w := want{effective: "certs.d"}
			c.running = c.containerd.Running()
			c.operator++ // the restart that was in vain
			c.switched(t, scenario{}, w)
			c.returned(t, w)
		})
	}
}
