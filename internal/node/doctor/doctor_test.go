package doctor_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/doctor"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// Tests run in a network and mount namespace of their own.
func TestMain(m *testing.M) { os.Exit(containerdtest.Isolate(m.Run)) }

// patient is a node with a containerd that runs, and what doctor says of it.
type patient struct {
	t *testing.T
	*containerdtest.Containerd
	source, state string
}

func newPatient(t *testing.T, v containerdtest.Version) *patient {
	t.Helper()
	c := containerdtest.NewVersion(t, v)
	return &patient{t: t, Containerd: c, source: filepath.Join(c.Dir, "registry.d"), state: filepath.Join(c.Dir, "state-of-agent")}
}

// ask runs doctor, with a restart that is possible, and fails the test if
// anything on the node is another thing afterwards.
func (p *patient) ask(args ...string) (code int, stdout, stderr string) {
	p.t.Helper()
	before := p.files()
	var out, complaints bytes.Buffer
	code = doctor.Command(p.t.Context(), append([]string{
		"--containerd-socket", p.Socket, "--source-dir", p.source, "--state-dir", p.state,
		"--host-root", "/", "--restart-command", "/bin/true",
	}, args...), &out, &complaints)
	if after := p.files(); after != before {
		p.t.Errorf("it changed the node: before\n%s\nafter\n%s", before, after)
	}
	return code, out.String(), complaints.String()
}

// files is every file that is not containerd's own state, with content and
// times.
func (p *patient) files() string {
	p.t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(p.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, p.Dir)
		for _, own := range []string{"/root", "/state", "/opt", "/log", "/run"} {
			if name == own {
				return skip(d)
			}
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var sum [32]byte
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = sha256.Sum256(data)
		}
		if name != "" {
			fmt.Fprintf(&out, "%s %s %s %x\n", name, info.Mode(), info.ModTime(), sum[:4])
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return out.String()
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func (p *patient) want(text string, parts ...string) {
	p.t.Helper()
	for _, part := range parts {
		if part = strings.ReplaceAll(part, "@", p.Dir); !strings.Contains(text, part) {
			p.t.Errorf("%q is missing in\n%s", part, text)
		}
	}
}

// TestFresh: containerd 1.x as a package leaves it needs an edit and a restart,
// and neither is in the way.
func TestFresh(t *testing.T) {
	t.Parallel()
	for _, version := range []containerdtest.Version{containerdtest.V16, containerdtest.V17} {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, version)
			p.Start(t)
			code, out, complaints := p.ask()
			if code != doctor.ExitReady || complaints != "" {
				t.Errorf("exit %d, %s\n%s", code, complaints, out)
			}
			p.want(out,
				"runtime: containerd ", "main file: @/config.toml (format 2)\n", "config_path: not set\n", "looks for hosts in: no directory\n",
				"users write hosts in: @/registry.d\n", "pulls by: the CRI plugin\n", "restart: possible\n",
				"would change: @/config.toml: set config_path, then restart containerd once: ",
				"--- @/config.toml\n+++ @/config.toml (changed)\n", "\n+", `config_path = "@/registry.d"`,
				"would change: @/registry.d/registry.d8-system.svc:5001/hosts.toml: write an entry of ours\n",
				"\nready: containerd will be restarted once, ")
			if strings.Contains(out, "\x1b") || strings.Contains(out, "problem") {
				t.Error(out)
			}
		})
	}
}

// TestNothingToDo: a config_path is enough.
func TestNothingToDo(t *testing.T) {
	t.Parallel()
	p := newPatient(t, containerdtest.V2)
	p.Configure(t, "["+p.RegistryTable()+"]\n  config_path = \"@/certs.d\"\n")
	p.Start(t)
	code, out, _ := p.ask()
	if code != doctor.ExitReady {
		t.Errorf("exit %d", code)
	}
	p.want(out, "config_path: @/certs.d\n", "looks for hosts in: @/certs.d\n", "pulls by: the transfer service\n", "ready: containerd need not be restarted; entries go to @/certs.d\n")
	if strings.Contains(out, "set config_path") {
		t.Error(out)
	}
}

// TestSomethingInTheWay: what an agent would wait for is named by file and
// line, and nothing of it is quoted.
func TestSomethingInTheWay(t *testing.T) {
	t.Parallel()
	p := newPatient(t, containerdtest.V17)
	p.Write(t, "conf.d/user.toml", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"x.example.com\".auth]\n  password = \"HIDDEN\"\n")
	p.Write(t, "conf.d/broken.toml", "version = \n")
	p.Start(t)
	code, out, _ := p.ask()
	if code != doctor.ExitProblem {
		t.Errorf("exit %d", code)
	}
	p.want(out, "problem: @/conf.d/user.toml:2: plugins.\"io.containerd.grpc.v1.cri\".registry.configs ", "problem: @/conf.d/broken.toml:1", "\nnot ready: ")
	if strings.Contains(out, "HIDDEN") || strings.Contains(out, "would change") {
		t.Error(out)
	}
}

// TestNoContainerd: that is said at once, with the way to another socket.
func TestNoContainerd(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "containerd.sock")
	var out, complaints bytes.Buffer
	began := time.Now()
	code := doctor.Command(t.Context(), []string{"--containerd-socket", socket}, &out, &complaints)
	if code != doctor.ExitUnknown || out.Len() > 0 || time.Since(began) > 10*time.Second {
		t.Errorf("exit %d after %s\n%s", code, time.Since(began), out.String())
	}
	want := "registry-agent: no containerd answers here, --containerd-socket says where it does: dial unix " + socket + ": connect: no such file or directory\n"
	if got := complaints.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

const example = `[host]

[host."https://mirror.example.com"]
  capabilities = ["pull", "resolve"]
  [host."https://mirror.example.com".auth]
    username = "HIDDEN-NAME"
    password = "HIDDEN"
`

// TestUsersFile: what would be added to a user's file is shown, without their
// password and the node's token; and the CA that is not there, which fails the
// whole image, is named.
func TestUsersFile(t *testing.T) {
	t.Parallel()
	p := newPatient(t, containerdtest.V2)
	p.Configure(t, "["+p.RegistryTable()+"]\n  config_path = \"@/registry.d\"\n")
	p.Write(t, "registry.d/registry.io/hosts.toml", example)
	p.Write(t, "registry.d/other.example.com/hosts.toml", "[host.\"https://mirror.example.com\"]\n  ca = \"/nowhere/ca.crt\"\n")
	p.Write(t, "state-of-agent/token", "SECRET-TOKEN-OF-THIS-NODE\n")
	p.Start(t)
	code, out, _ := p.ask()
	if code != doctor.ExitProblem {
		t.Errorf("exit %d", code)
	}
	p.want(out, "user's registry.io: https://mirror.example.com (auth or rewrite: by the agent)\n",
		"problem: @/registry.d/other.example.com/hosts.toml:2: ", "/nowhere/ca.crt",
		"would change: @/registry.d/registry.io/hosts.toml: lead containerd to the agent first\n",
		"+# registry-agent: begin\n", `+X-Registry-Node-Token = "***"`)
	for _, secret := range []string{"HIDDEN", "SECRET"} {
		if strings.Contains(out, secret) {
			t.Errorf("%s in\n%s", secret, out)
		}
	}
	// The same for programs.
	code, out, _ = p.ask("-o", "json")
	var report doctor.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != doctor.ExitProblem {
		t.Fatalf("exit %d, %v:\n%s", code, err, out)
	}
	if report.Ready || len(report.Problems) != 1 || len(report.Users) != 2 || report.Containerd.Effective != p.source || report.Preflight != "Ready" {
		t.Errorf("%+v", report)
	}
	if strings.Contains(out, "HIDDEN") || strings.Contains(out, "SECRET") {
		t.Error(out)
	}
}

// TestUsersFileByVersion: a user's file is judged by the containerd of the node, and a
// key that nobody knows is in nobody's way.
func TestUsersFileByVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[containerdtest.Version]struct {
		code int
		said string
	}{
		containerdtest.V17: {doctor.ExitProblem, "problem: @/registry.d/six.example.com/hosts.toml:2: containerd v1.7.35 cannot read brackets in a header"},
		containerdtest.V2:  {doctor.ExitReady, "user's six.example.com: https://[fd00::1]:5000\n"},
	} {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, version)
			p.Configure(t, "["+p.RegistryTable()+"]\n  config_path = \"@/registry.d\"\n")
			p.Write(t, "registry.d/odd.example.com/hosts.toml", "[host]\n[host.\"https://mirror.example.com\"]\n  insecure_skip_verify = true\n")
			p.Write(t, "registry.d/six.example.com/hosts.toml", "# a mirror\n[host.\"https://[fd00::1]:5000\"]\n")
			p.Start(t)
			code, out, _ := p.ask()
			if code != want.code {
				t.Errorf("exit %d", code)
			}
			p.want(out, strings.Replace(want.said, "containerd v", "containerd ", 1),
				"warning: @/registry.d/odd.example.com/hosts.toml:3: host.\"https://mirror.example.com\".insecure_skip_verify: neither containerd ", "expected skip_verify\n")
		})
	}
}

// TestNoRestart: a restart that is needed and cannot be is in the way.
func TestNoRestart(t *testing.T) {
	t.Parallel()
	p := newPatient(t, containerdtest.V16)
	p.Start(t)
	code, out, _ := p.ask("--restart-command", "")
	if code != doctor.ExitProblem {
		t.Errorf("exit %d", code)
	}
	p.want(out, "problem: containerd must be restarted for a switch: ")
}

// TestPeopleMustSetIt: where a restart of ours would be useless, doctor says where
// people write config_path, and does not speak of a restart of ours.
func TestPeopleMustSetIt(t *testing.T) {
	t.Parallel()
	for version, table := range map[containerdtest.Version]string{
		containerdtest.V17: `[plugins."io.containerd.grpc.v1.cri".registry]`, containerdtest.V2: `[plugins."io.containerd.cri.v1.images".registry]`,
	} {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, version)
			p.Main(t, "# k0s_managed=true\n"+p.Base())
			p.Start(t)
			code, out, _ := p.ask("--restart-command", "")
			if code != doctor.ExitProblem || strings.Contains(out, "must be restarted for a switch") {
				t.Errorf("exit %d\n%s", code, out)
			}
			p.want(out, "config_path goes into: "+table+"\n", "in a file of its own in @/containerd.d, such as registry.toml, and restart k0s")
		})
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	p := newPatient(t, containerdtest.V2)
	for name, row := range map[string]struct {
		args []string
		code int
	}{
		"unknown flag":   {[]string{"--frobnicate"}, doctor.ExitUsage},
		"an argument":    {[]string{"now"}, doctor.ExitUsage},
		"unknown format": {[]string{"-o", "yaml"}, doctor.ExitUsage},
		"help":           {[]string{"--help"}, doctor.ExitReady},
		"no containerd":  {nil, doctor.ExitUnknown},
	} {
		if code, out, complaints := p.ask(row.args...); code != row.code || out != "" || complaints == "" {
			t.Errorf("%s: exit %d, want %d: %s%s", name, code, row.code, out, complaints)
		}
	}
}
