package mainfile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/node/mainfile"
)

const dir = "/etc/containerd/registry.d"

// set are files with what becomes of them; in both ¶ is a carriage return.
var set = []struct {
	name  string
	major int
	in    string
	want  string
}{
	{
		name: "kubeadm's, from `containerd config default`", major: 1,
		in: `version = 2
[plugins]

  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "registry.k8s.io/pause:3.8" # theirs

    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = ""

      [plugins."io.containerd.grpc.v1.cri".registry.auths]
`,
		want: `version = 2
[plugins]

  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "registry.k8s.io/pause:3.8" # theirs

    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/registry.d"

      [plugins."io.containerd.grpc.v1.cri".registry.auths]
`,
	},
	{
		name: "the table without the key", major: 1,
		in:   "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry] # here\n\theaders = {}\n[grpc]\n",
		want: "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry] # here\n\tconfig_path = \"/etc/containerd/registry.d\" # registry-agent\n\theaders = {}\n[grpc]\n",
	},
	{
		name: "the empty table", major: 1,
		in:   "version = 2\n [ plugins . \"io.containerd.grpc.v1.cri\" . registry ]",
		want: "version = 2\n [ plugins . \"io.containerd.grpc.v1.cri\" . registry ]\n   config_path = \"/etc/containerd/registry.d\" # registry-agent",
	},
	{
		name: "no table; the file's last line has no newline", major: 1,
		in:   "version = 2\r\nroot = \"/r\"",
		want: "version = 2\r\nroot = \"/r\"\r\n# registry-agent: begin\r\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\r\n  config_path = \"/etc/containerd/registry.d\"\r\n# registry-agent: end",
	},
	{
		name: "windows lines", major: 2,
		in:   "version = 3\r\n[plugins]\r\n[plugins.'io.containerd.cri.v1.images'.registry]\r\nheaders = {}\r\n",
		want: "version = 3\r\n[plugins]\r\n[plugins.'io.containerd.cri.v1.images'.registry]\r\nconfig_path = \"/etc/containerd/registry.d\" # registry-agent\r\nheaders = {}\r\n",
	},
	{
		name: "dotted keys", major: 1,
		in:   "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"x\"\n  registry . headers.X = [\"y\"]\n",
		want: "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"x\"\n  registry.config_path = \"/etc/containerd/registry.d\" # registry-agent\n  registry . headers.X = [\"y\"]\n",
	},
	{
		name: "dotted keys from the root", major: 1,
		in:   "plugins.cri.registry.headers.X = [\"y\"]\n",
		want: "plugins.cri.registry.config_path = \"/etc/containerd/registry.d\" # registry-agent\nplugins.cri.registry.headers.X = [\"y\"]\n",
	},
	{
		name: "an inline table that has the key", major: 1,
		in:   "version = 2\n[plugins]\n\"io.containerd.grpc.v1.cri\" = { registry = { config_path = '/a:/b', headers = {} }, x = 1 } # c\n",
		want: "version = 2\n[plugins]\n\"io.containerd.grpc.v1.cri\" = { registry = { config_path = \"/etc/containerd/registry.d\", headers = {} }, x = 1 } # c\n",
	},
	{
		name: "a table made of its sub-tables", major: 1,
		in:   "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\nX = [\"y\"]\n",
		want: "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\nX = [\"y\"]\n# registry-agent: begin\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end\n",
	},
	{
		name: "a list, in a string of several lines", major: 2,
		in:   "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = \"\"\"\\\n  /a:/b\"\"\" # mine\n",
		want: "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = \"/etc/containerd/registry.d\" # mine\n",
	},
	{name: "no file, 1.x", major: 1, want: "# registry-agent: begin\nversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end\n"},
	{name: "no file, 2.x", major: 2, want: "# registry-agent: begin\nversion = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end\n"},
	{name: "comments only", major: 1, in: "# mine", want: "# mine\n# registry-agent: begin\nversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end"},
	{name: "a byte order mark", major: 1, in: "\uFEFFversion = 2\n", want: "\uFEFFversion = 2\n# registry-agent: begin\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end\n"},
	{name: "format 1 on 1.x", major: 1, in: "root = \"/r\"\n", want: "root = \"/r\"\n# registry-agent: begin\n[plugins.cri.registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end\n"},
	{name: "format 1 on 2.x", major: 2, in: "root = \"/r\"\n", want: "root = \"/r\"\n# registry-agent: begin\n[plugins.cri.registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end\n"},
	{name: "format 2 on 2.x", major: 2, in: "version = 2\n", want: "version = 2\n# registry-agent: begin\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end\n"},
	{
		name: "format 2 on 2.x that knows the new name", major: 2,
		in:   "version = 2\n[plugins.'io.containerd.cri.v1.images'.registry]\n",
		want: "version = 2\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \"/etc/containerd/registry.d\" # registry-agent\n",
	},
	{name: "there already", major: 1, in: "version=2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path='/etc/containerd/registry.d'", want: "version=2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path='/etc/containerd/registry.d'"},
}

func TestSetConfigPath(t *testing.T) {
	t.Parallel()
	for _, c := range set {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := mainfile.SetConfigPath([]byte(c.in), c.major, dir)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Fatalf("got\n%s\nwant\n%s", got, c.want)
			}
			back, err := mainfile.Restore(got, []byte(c.in), dir)
			if err != nil || string(back) != c.in {
				t.Fatalf("the way back: %v\n%q\nwant\n%q", err, back, c.in)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		major int
		in    string
		line  int
		says  []string
	}{
		{"not TOML", 1, "version = 2\n[plugins\npassword = \"secret\"\n", 2, []string{"line 2", "TOML"}},
		{"inline table", 1, "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nregistry = { headers = {} }\n", 3, []string{"line 3", "inline table", `config_path = "/etc/containerd/registry.d"`}},
		{"inline plugin", 1, "version = 2\nplugins = { 'io.containerd.grpc.v1.cri' = { x = 1 } }\n", 2, []string{"line 2", "inline table", "registry.config_path"}},
		{"no table", 1, "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nregistry = 1\n", 3, []string{"line 3", "not a table"}},
		{"no string", 1, "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = ['/a']\n", 3, []string{"line 3", "not a string"}},
		{"list of tables", 1, "version = 2\n[[plugins.'io.containerd.grpc.v1.cri'.registry]]\n", 2, []string{"line 2", "list of tables"}},
		{"format 3 on 1.x", 1, "version = 3\n", 0, []string{"version = 3", "containerd 2"}},
		{"version of letters", 1, "version = \"2\"\n", 0, []string{"version"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := mainfile.SetConfigPath([]byte(c.in), c.major, dir)
			var refusal *mainfile.Refusal
			if !errors.As(err, &refusal) || refusal.Line != c.line {
				t.Fatalf("%v, want a refusal at line %d", err, c.line)
			}
			for _, s := range append(c.says, "") {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%q quotes the file", err)
			}
		})
	}
	for _, bad := range []string{"", "relative", "/a:/b", "/a\"b", "/a/../b", "/a\nb", "/"} {
		if _, err := mainfile.SetConfigPath(nil, 1, bad); err == nil {
			t.Errorf("%q was taken for a directory", bad)
		}
	}
}

// What others changed meanwhile stays.
func TestRestoreAmongChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, original, now, want string }{
		{
			"somebody sorted the file", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = '/a:/b'\n",
			"[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path='/etc/containerd/registry.d' # x\n[grpc]\n",
			"[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path='/a:/b' # x\n[grpc]\n",
		},
		{
			"somebody set another path", "", "version=2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path='/theirs'\n",
			"version=2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path='/theirs'\n",
		},
		{
			"a setting was added to our table", "version = 2\n",
			"version = 2\n# registry-agent: begin\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end\nheaders = {}\n",
			"version = 2\n# registry-agent: begin\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n# registry-agent: end\nheaders = {}\n",
		},
		{
			"a table was added after ours, with the file's format ours", "",
			"# registry-agent: begin\nversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/registry.d\"\n# registry-agent: end\n[grpc]\nuid = 1\n",
			"# registry-agent: begin\nversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n# registry-agent: end\n[grpc]\nuid = 1\n",
		},
		{
			"without our marks", "version = 2\n",
			"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/registry.d\"\n",
			"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n",
		},
		{
			"the original is not TOML", "][",
			"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/registry.d\" # theirs\n",
			"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n # theirs\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := mainfile.Restore([]byte(c.now), []byte(c.original), dir)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Fatalf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	if _, err := mainfile.ClearConfigPath([]byte("plugins.cri.registry = { config_path = '"+dir+"' }"), dir); err == nil {
		t.Error("config_path was taken out of an inline table")
	}
}
