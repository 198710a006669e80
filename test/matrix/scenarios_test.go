package matrix_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// In texts @ is the node's folder, REGISTRY the name of the table of
// registries, HOST-A and CA-A are the platform's registry, HOST-U and CA-U the
// user's, CONF-D is the folder in which users of the platform put additions for
// this version of containerd, and CONF-OTHER that for the other.

// scenario is a way in which a node was configured before us.
type scenario struct {
	name string
	// main is what the main configuration says of registries, head how it begins.
	main, head string
	// at is where the main configuration is, if not in the node's folder.
	at string
	// files are the users', by their path.
	files map[string]string
	// breaks happens when containerd runs already: what nobody could start with.
	breaks func(t *testing.T, c *cell)
	// repair is what the operator does about what preflight says.
	repair func(t *testing.T, c *cell)
	want   func(v containerdtest.Version) want
	// blocks are the users' files that have a block of ours in Direct.
	blocks []string
	// pulls are references that can be pulled in Direct, beside the platform's.
	pulls []string
}

// want is what has to happen on the node.
type want struct {
	// preflight and words are the verdict before a repair.
	preflight string
	words     []string
	// stuck says that there is no repair: nothing is touched.
	stuck bool
	// effective is where our entries go.
	effective string
	// restarts is how often containerd is restarted by a switch.
	restarts int
}

// same is an expectation for all versions.
func same(w want) func(containerdtest.Version) want {
	return func(containerdtest.Version) want { return w }
}

const mirrorAuth = `[host]
  # of the user, with a comment
  [host."https://HOST-U"]
    capabilities = ["pull", "resolve"]
    ca = ["@/users/ca.crt"]
    [host."https://HOST-U".auth]
      username = "user"
      password = "password"
    [[host."https://HOST-U".rewrite]]
      regex = "^images/(.*)$"
      replace = "mirror/$1"
`

const k3s = "var/lib/rancher/k3s/agent/etc/containerd/"

func scenarios() []scenario {
	return slices.Concat(configured(), custom(), foreign())
}

// configured are nodes on which a switch goes through without anybody.
func configured() []scenario {
	return []scenario{
		{
			name: "fresh",
			want: same(want{preflight: "Ready", effective: "registry.d", restarts: 1}),
		},
		{
			name: "config_path set", main: "[REGISTRY]\n  config_path = \"@/certs.d\"\n",
			want: same(want{preflight: "Ready", effective: "certs.d"}),
		},
		{
			name: "config_path list", main: "[REGISTRY]\n  config_path = \"@/certs.d:@/more.d\" # two\n",
			files: map[string]string{"more.d/mirror.example.com/hosts.toml": "server = \"https://mirror.example.com\"\n"},
			want: func(v containerdtest.Version) want {
				w := want{preflight: "Ready", effective: "certs.d"}
				if !v.One() { // the transfer service takes the list for one name
					w.restarts = 1
				}
				return w
			},
		},
		{
			name: "foreign host directories", main: "[REGISTRY]\n  config_path = \"@/certs.d\"\n",
			files: map[string]string{
				"certs.d/mirror.example.com/hosts.toml": "# theirs\nserver = \"https://mirror.example.com\"\n",
				"certs.d/old.example.com:5000/ca.crt":   "CA-U",
				"certs.d/README":                        "ours\n",
				"certs.d/broken.example.com/hosts.toml": "[[[\n",
				"registry.d/idle.example.com/notes.txt": "nothing\n",
			},
			want: same(want{preflight: "Ready", effective: "certs.d"}),
		},
		{
			name: "a foreign directory of our own registry", main: "[REGISTRY]\n  config_path = \"@/certs.d\"\n",
			files:  map[string]string{"certs.d/HOST-A/hosts.toml": "server = \"https://HOST-A\"\nca = \"@/users/a.crt\"\n\n[host]\n\n[host.\"https://HOST-A\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = \"@/users/a.crt\"\n", "users/a.crt": "CA-A"},
			want:   same(want{preflight: "Ready", effective: "certs.d"}),
			blocks: []string{"certs.d/HOST-A/hosts.toml"},
		},
		{
			name:   "user's Mirror Auth files",
			files:  map[string]string{"registry.d/registry.io/hosts.toml": mirrorAuth, "users/ca.crt": "CA-U"},
			want:   same(want{preflight: "Ready", effective: "registry.d", restarts: 1}),
			pulls:  []string{"registry.io/images/app:v1"},
			blocks: []string{"registry.d/registry.io/hosts.toml"},
		},
		{
			name: "user's Mirror Auth files, effective elsewhere", main: "[REGISTRY]\n  config_path = \"@/certs.d\"\n",
			files:  map[string]string{"registry.d/registry.io/hosts.toml": mirrorAuth, "users/ca.crt": "CA-U"},
			want:   same(want{preflight: "Ready", effective: "certs.d"}),
			pulls:  []string{"registry.io/images/app:v1"},
			blocks: []string{"registry.d/registry.io/hosts.toml"},
		},
		{
			name: "additions for the other version", main: "[REGISTRY]\n  config_path = \"@/certs.d\"\n",
			files: map[string]string{"CONF-OTHER/auth.toml": "[REGISTRY.configs.\"registry.io\".auth]\n  username = \"user\"\n", "CONF-OTHER/broken.toml": "[[[\n"},
			want:  same(want{preflight: "Ready", effective: "certs.d"}),
		},
		{
			name: "k3s layout", at: k3s + "config.toml", main: "[REGISTRY]\n  config_path = \"@/" + k3s + "certs.d\"\n",
			files: map[string]string{
				k3s + "certs.d/mirror.example.com/hosts.toml": "# File generated by k3s. DO NOT EDIT.\n\nserver = \"https://mirror.example.com/v2\"\ncapabilities = [\"pull\", \"resolve\", \"push\"]\n\n[host]\n",
			},
			want: same(want{preflight: "Ready", effective: k3s + "certs.d"}),
		},
		{
			name: "k3s layout without config_path", at: k3s + "config.toml",
			want: same(want{preflight: "Unsupported", words: []string{"config_path is not set", "written anew whenever k3s starts", ".tmpl", "registry.d"}, stuck: true}),
		},
	}
}

// custom are nodes on which the operator has to do something before.
func custom() []scenario {
	const field = "is in the format that config_path replaces"
	return []scenario{
		{
			name: "legacy mirrors", main: "[REGISTRY.mirrors.\"mirror.example.com\"]\n  endpoint = [\"https://mirror.example.com\"]\n",
			want: same(want{preflight: "Custom", words: []string{"@/config.toml:", "registry.mirrors", field, "@/registry.d"}, effective: "registry.d", restarts: 1}),
			repair: func(t *testing.T, c *cell) {
				c.rewrite(t, "config.toml", func(text string) (string, bool) {
					text, _, _ = strings.Cut(text, "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors")
					text, _, _ = strings.Cut(text, "[plugins.'io.containerd.cri.v1.images'.registry.mirrors")
					return text + "# it was here\n", true
				})
			},
		},
		{
			name: "legacy auth in conf.d",
			files: map[string]string{"CONF-D/auth.toml": "# by hand\n[REGISTRY.configs.\"registry.io\".auth]\n  username = \"user\"\n  password = \"hidden\"\n",
				"CONF-D/other.toml": "# nothing of registries\n"},
			want: same(want{preflight: "Custom", effective: "registry.d", restarts: 1, words: []string{
				"Failed to merge @/CONF-D/auth.toml: contains custom registry fields; please configure them in @/registry.d", "line 2", "registry.configs",
			}}),
			repair: func(t *testing.T, c *cell) { c.rewrite(t, "CONF-D/auth.toml", removed) },
		},
		{
			name: "broken TOML", main: "[REGISTRY]\n  config_path = \"@/certs.d\"\n",
			breaks: func(t *testing.T, c *cell) {
				c.rewrite(t, "config.toml", func(text string) (string, bool) { return text + "[broken\n", true })
			},
			want: same(want{preflight: "Custom", effective: "certs.d",
				words: []string{"@/config.toml:", "containerd would not start with it"}}),
			repair: func(t *testing.T, c *cell) {
				c.rewrite(t, "config.toml", func(text string) (string, bool) { return strings.TrimSuffix(text, "[broken\n"), true })
			},
		},
		{
			name: "broken TOML in conf.d", main: "[REGISTRY]\n  config_path = \"@/certs.d\"\n",
			files:  map[string]string{"CONF-D/broken.toml": "a = 1\nb = = 2\n"},
			want:   same(want{preflight: "Custom", effective: "certs.d", words: []string{"@/CONF-D/broken.toml:2"}}),
			repair: func(t *testing.T, c *cell) { c.rewrite(t, "CONF-D/broken.toml", removed) },
		},
	}
}
