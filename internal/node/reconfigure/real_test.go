package reconfigure_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/reconfigure"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// real is a real containerd with an agent beside it.
type real struct {
	*containerdtest.Containerd
	t       *testing.T
	host    *reconfigure.Host
	state   string
	service func(context.Context) error // before a restart; its error is the restart's
	prove   func(path string) error
}

func newReal(t *testing.T, v containerdtest.Version) *real {
	t.Helper()
	r := &real{Containerd: containerdtest.NewVersion(t, v), t: t, state: t.TempDir()}
	host, err := reconfigure.NewHost(r.Socket)
	if err != nil {
		t.Fatal(err)
	}
	r.host = host
	return r
}

func (r *real) Check(context.Context) error { return nil }

// Restart implements reconfigure.Service.
func (r *real) Restart(ctx context.Context) error {
	if r.service != nil {
		if err := r.service(ctx); err != nil {
			return err
		}
	}
	return r.RestartService(ctx)
}

func (r *real) want() reconfigure.Want {
	major := 1
	if !r.Version.One() {
		major = 2
	}
	return reconfigure.Want{File: r.ConfigFile, Shown: r.ConfigFile, Major: major, Path: r.HostsDir}
}

func (r *real) agent() *reconfigure.Reconfigurer {
	return reconfigure.New(reconfigure.Options{
		Log: quiet(), State: r.state, Runtime: r.host, Service: r,
		Prove: func(ctx context.Context, path string) error {
			if r.prove != nil {
				return r.prove(path)
			}
			return r.looks(ctx, path)
		},
		Limits: reconfigure.Limits{Restart: 20 * time.Second, Answer: 10 * time.Second, Prove: 5 * time.Second},
	})
}

// looks asks containerd itself, by what a dump of its file says and by its
// being alive; the redirect is proved elsewhere.
func (r *real) looks(ctx context.Context, path string) error {
	dump, err := r.host.DumpConfig(ctx, r.ConfigFile)
	if err != nil {
		return err
	}
	if path != "" && !strings.Contains(string(dump), path) {
		return errors.New("config_path is not there")
	}
	return r.host.Answers(ctx)
}

func (r *real) pass(w reconfigure.Want, approved string) reconfigure.Status {
	r.t.Helper()
	s, err := r.agent().Pass(r.t.Context(), w, approved)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *real) approve(w reconfigure.Want) reconfigure.Status {
	r.t.Helper()
	s := r.pass(w, "")
	if s.Phase != reconfigure.Waiting {
		r.t.Fatalf("%+v", s)
	}
	return r.pass(w, s.ID)
}

func (r *real) read() string {
	r.t.Helper()
	data, err := os.ReadFile(r.ConfigFile)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

func each(t *testing.T, test func(t *testing.T, r *real)) {
	t.Helper()
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			test(t, newReal(t, v))
		})
	}
}

func TestRealThereAndBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "# theirs, to the end")
		main := r.read()
		r.Start(t)
		r.RunPod(t)
		running := r.Running()
		if s := r.approve(r.want()); !s.Committed {
			t.Fatalf("%+v", s)
		}
		if r.Starts() != 2 || !slices.Equal(running, r.Running()) || len(running) == 0 {
			t.Fatalf("%d starts; %v ran and %v run", r.Starts(), running, r.Running())
		}
		p, err := containerd.Running(t.Context(), r.Socket)
		if err != nil {
			t.Fatal(err)
		}
		settings, err := containerd.Dump(t.Context(), p, r.ConfigFile)
		if err != nil || settings.ConfigPath != r.HostsDir {
			t.Fatalf("config_path is %q, %v", settings.ConfigPath, err)
		}
		w := r.want()
		w.Path, w.Legacy = "", true
		if s := r.approve(w); !s.Committed || r.read() != main {
			t.Fatalf("%+v; the file is\n%s", s, r.read())
		}
		if r.Starts() != 3 || !slices.Equal(running, r.Running()) {
			t.Fatalf("%d starts; %v ran and %v run", r.Starts(), running, r.Running())
		}
		left, err := filepath.Glob(r.ConfigFile + ".*")
		if err != nil || len(left) != 0 {
			t.Fatal(left, err)
		}
	})
}

// Containerd does not start with the change, although its own `config dump`
// takes it.
func TestRealBreaks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "")
		main := r.read()
		r.Start(t)
		r.RunPod(t)
		running := r.Running()
		r.service = func(context.Context) error {
			if strings.Contains(r.read(), r.HostsDir) {
				// As a unit whose ExecStartPre has an opinion of the file.
				r.Terminate(t)
				return errors.New("the job ended with: failed")
			}
			return nil
		}
		s := r.approve(r.want())
		if s.Phase != reconfigure.Failed || !strings.Contains(s.Message, "containerd runs with it") {
			t.Fatalf("%+v", s)
		}
		if r.read() != main || !slices.Equal(running, r.Running()) {
			t.Fatalf("%v ran and %v run; the file is\n%s", running, r.Running(), r.read())
		}
		if err := r.host.Answers(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// The CRI plugin does not load, while containerd itself is up.
func TestRealCRIDoesNotLoad(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "")
		main := r.read()
		r.Start(t)
		r.service = func(context.Context) error {
			now := r.read()
			if !strings.Contains(now, r.HostsDir) {
				return nil
			}
			// Another program writes in the very moment of the restart.
			r.Main(t, now+"\n["+r.RegistryTable()+".mirrors.'docker.io']\n  endpoint = ['https://x']\n")
			return nil
		}
		s := r.approve(r.want())
		r.service = nil
		if s.Phase != reconfigure.Failed || !strings.Contains(s.Message, "CRI") {
			t.Fatalf("%+v", s)
		}
		if now := r.read(); strings.Contains(now, r.HostsDir) || !strings.HasPrefix(now, main) {
			t.Fatalf("the file is\n%s", now)
		}
		if err := r.host.Answers(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// Legacy settings anywhere: refused before anything is touched.
func TestRealRefuses(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "["+r.RegistryTable()+".mirrors.'docker.io']\n  endpoint = ['https://x']\n")
		main := r.read()
		r.Start(t)
		_, err := r.agent().Pass(t.Context(), r.want(), "")
		var refusal *reconfigure.Refusal
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), "registry.mirrors") {
			t.Fatal(err)
		}
		if r.read() != main || r.Starts() != 1 {
			t.Fatal("something was touched")
		}
	})
}

// A file that we make where there was none means the defaults and config_path,
// as containerd itself says.
func TestRealNoFile(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "")
		r.Start(t)
		w := r.want()
		w.Shown = filepath.Join(r.Dir, "none.toml")
		w.File = w.Shown
		s := r.pass(w, "")
		if s.Phase != reconfigure.Waiting {
			t.Fatalf("%+v", s)
		}
		for _, text := range []string{"", "# nothing\n"} {
			r.Write(t, "none.toml", text)
			if s := r.pass(w, ""); s.Phase != reconfigure.Waiting {
				t.Fatalf("%q: %+v", text, s)
			}
		}
	})
}

// Every form of the file that the edit knows is one that each containerd reads
// in the same way.
func TestRealForms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "")
		r.Start(t)
		plugin := strings.TrimSuffix(r.RegistryTable(), ".registry")
		version := "version = 2\n"
		if !r.Version.One() {
			version = "version = 3\n"
		}
		forms := map[string]string{
			"windows":      strings.ReplaceAll(version+"["+plugin+"]\n[grpc]\n", "\n", "\r\n"),
			"dotted":       version + "[" + plugin + "]\nregistry.headers.X = ['y']\n",
			"dotted root":  version + plugin + ".registry.headers.X = ['y']\n",
			"sub-table":    version + "[" + plugin + ".registry.headers]\nX = ['y']\n",
			"empty table":  version + " [ " + plugin + " . registry ] # c",
			"inline":       version + "[" + plugin + "]\nregistry = { config_path = '/a:/b', headers = {X = ['y']} }\n",
			"no newline":   version + "[" + plugin + ".registry]\nconfig_path = ''",
			"dotted table": version + plugin + ".max_container_log_line_size = 7\n",
			"format 1":     "[plugins.cri]\nsandbox_image = 'x'\n",
			"format 2":     "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n",
		}
		for name, text := range forms {
			r.Write(t, "form.toml", text)
			w := r.want()
			w.Shown = filepath.Join(r.Dir, "form.toml")
			w.File = w.Shown
			s, err := r.agent().Pass(t.Context(), w, "")
			if err != nil || s.Phase != reconfigure.Waiting {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		}
		for name, text := range map[string]string{
			"byte order mark": "\uFEFF" + version,
			"broken":          version + "]",
		} {
			r.Write(t, "form.toml", text)
			w := r.want()
			w.Shown = filepath.Join(r.Dir, "form.toml")
			w.File = w.Shown
			s, err := r.agent().Pass(t.Context(), w, "")
			t.Logf("%s: %+v, %v", name, s, err)
			if err == nil && s.Phase != reconfigure.Waiting {
				t.Errorf("%s: %+v", name, s)
			}
		}
	})
}

// The dump is what the identity of a change is made of: it must not differ
// from call to call.
func TestRealIDIsStable(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "")
		r.Start(t)
		first := r.pass(r.want(), "")
		for range 5 {
			if s := r.pass(r.want(), ""); s != first {
				t.Fatalf("%+v\nbecame\n%+v", first, s)
			}
		}
		dump, err := r.host.DumpConfig(t.Context(), r.ConfigFile)
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if err := toml.Unmarshal(dump, &tree); err != nil || len(tree) == 0 {
			t.Fatal(err)
		}
	})
}

// containerd 2's `config dump` takes no notice of an import that is missing.
func TestRealMissingImport(t *testing.T) {
	t.Parallel()
	r := newReal(t, containerdtest.V2)
	r.Configure(t, "")
	r.Write(t, "more/a.toml", "version = 3\nimports = ['../more/b.toml']\n")
	r.Main(t, "imports = ['more/a.toml', 'conf.d/*.toml']\n"+r.Base())
	r.Write(t, "more/b.toml", "version = 3\n")
	r.Start(t)
	if s := r.pass(r.want(), ""); s.Phase != reconfigure.Waiting {
		t.Fatalf("%+v", s)
	}
	if err := os.Remove(filepath.Join(r.Dir, "more/b.toml")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.host.DumpConfig(t.Context(), r.ConfigFile); err != nil {
		t.Log("this containerd says it by itself:", err)
	}
	_, err := r.agent().Pass(t.Context(), r.want(), "")
	var refusal *reconfigure.Refusal
	if !errors.As(err, &refusal) || !strings.Contains(err.Error(), "more/b.toml, which does not exist") {
		t.Fatal(err)
	}
}
