package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/watchdog"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// TestSwitch is the life of a node through a change of credentials, of the
// registry, and the removal of the old one, on a real containerd.
func TestSwitch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.asAgent()
	faults := apiserver.NewFaultProxy(t, w.kube)
	w.kube = faults.Config()
	rA, a := registry(t, "team/a")
	_, b := registry(t, "mirror/b")
	w.start()

	s := w.until("a first look", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Preflight == "Ready" })
	if s.Generation != 0 || !s.Legacy || s.Message != "" || s.NodeUID != w.uid || s.BootID != "boot-1" ||
		s.Containerd.EffectiveDirectory != w.containerd.HostsDir || !strings.HasPrefix(s.Containerd.Version, "v2.") || s.AgentVersion != "test" {
		t.Errorf("before anything is published: %+v", s)
	}
	if _, err := os.Stat(w.containerd.HostsDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written before anything was published: %v", err)
	}

	fixed, nameA, nameB := layout.Fixed(), layout.NameOf(a), layout.NameOf(b)
	w.publish(a, []layout.Name{fixed, nameA})
	s = w.reported()
	if len(s.Redirects) != 2 || !s.Redirects[0].Proved || !s.Redirects[1].Proved || s.Legacy || s.Message != "" || s.Version == "" ||
		len(s.Upstreams) != 1 || !s.Upstreams[0].Reached || s.Upstreams[0].Registry != a.String() {
		t.Errorf("first layout: %+v", s)
	}
	for _, ref := range []string{fixed.Reference("app:v1"), nameA.Reference("app:v1")} {
		w.must(w.pull(ref))
	}
	before := snapshot(t, w.containerd.HostsDir)

	a.Credentials.Password = "other" // the registry refuses it; the node is not the one to find out
	w.publish(a, []layout.Name{fixed, nameA})
	w.reported()
	if after := snapshot(t, w.containerd.HostsDir); !slices.Equal(before, after) {
		t.Errorf("other credentials wrote files:\n%q\n%q", before, after)
	}

	a.Credentials.Password = "password"
	w.publish(b, []layout.Name{fixed, nameA, nameB}, a)
	w.reported()
	after := snapshot(t, w.containerd.HostsDir)
	for _, line := range before {
		if !slices.Contains(after, line) && !strings.HasPrefix(line, ".registry-agent-owned.json") {
			t.Errorf("another registry rewrote %s", line)
		}
	}
	rA.Stop()
	for _, ref := range []string{fixed.Reference("app:v1"), nameA.Reference("app:v1"), nameB.Reference("app:v1")} {
		if err := w.pull(ref); err != nil {
			t.Errorf("with A dead: %v", err)
		}
	}
	w.publish(b, []layout.Name{fixed, nameB})
	if s := w.reported(); len(s.Redirects) != 2 || len(s.Upstreams) != 1 || s.Message != "" {
		t.Errorf("without A: %+v", s)
	}
	if _, err := os.Stat(filepath.Join(w.containerd.HostsDir, nameA.Host)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("A's directory: %v", err)
	}
	w.must(w.pull(fixed.Reference("app:v1")))
	w.eventually("the route of A's name", func() bool { return !w.routed(nameA) })

	// One write per phase: the first look and four generations.
	if writes := faults.Writes(); len(writes) != 5 {
		t.Errorf("%d writes, want 5: %q", len(writes), writes)
	}
}

// snapshot tells whether a file was written, even with the same content.
func snapshot(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out = append(out, rel+" "+info.ModTime().Format(time.RFC3339Nano))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOnlyTheKubeletsContainerdCounts: our entries are where another
// containerd looks, and that one does come to the agent.
func TestOnlyTheKubeletsContainerdCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := containerdtest.New(t)
	otherCRI := other.Start(t)
	w.node.HostsDir = other.HostsDir
	_, a := registry(t, "team/a")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed(), layout.NameOf(a)})
	s := w.until("a proof that fails", func(s registryv1alpha1.RegistryNodeStatus) bool { return len(s.Redirects) > 0 })
	if s.Generation != 0 || s.Redirects[0].Proved || s.Redirects[1].Proved || !strings.Contains(s.Message, "does not come to the agent") {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := otherCRI.PullImage(ctx, layout.Fixed().Reference("app:v1")); err != nil {
		t.Errorf("the other containerd: %v", err)
	}
}

// TestProofIsWithdrawn: containerd starts again with another configuration.
func TestProofIsWithdrawn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	w.node.HostsDir = w.containerd.HostsDir // so that the agent does not just follow
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	w.reported()

	w.containerd.Stop()
	w.containerd.Configure(t, "[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \"@/elsewhere\"\n")
	w.containerd.Start(t)
	s := w.until("the report's withdrawal", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Generation == 0 && len(s.Redirects) == 1 && !s.Redirects[0].Proved
	})
	if s.Version != "" || !strings.Contains(s.Message, "does not come to the agent") {
		t.Errorf("%+v", s)
	}

	w.containerd.Stop()
	w.containerd.Configure(t, "[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \"@/certs.d\"\n")
	w.containerd.Start(t)
	if s := w.reported(); s.Message != "" {
		t.Errorf("%+v", s)
	}
}

// TestFollowsContainerd: without an override the agent goes where containerd
// looks after a restart.
func TestFollowsContainerd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	w.reported()
	w.containerd.Stop()
	w.containerd.Configure(t, "[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \"@/elsewhere\"\n")
	w.containerd.Start(t)
	w.until("the new directory", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Generation == w.generation && s.Containerd.EffectiveDirectory == w.containerd.Dir+"/elsewhere"
	})
	w.must(w.pull(layout.Fixed().Reference("app:v1")))
}

// TestCustomConfigurationIsNotTouched: a user's registry section blocks, is
// named, and its removal is noticed.
func TestCustomConfigurationIsNotTouched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	w.containerd.Write(t, "d/user.toml", "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'x.example.com']\nendpoint = ['https://m']\n")
	text, err := os.ReadFile(w.containerd.ConfigFile)
	w.must(err)
	w.containerd.Write(t, "config.toml", "imports = ['@/d/*.toml']\n"+string(text))
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	s := w.until("Custom", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Preflight == "Custom" && len(s.Redirects) > 0
	})
	if s.Generation != 0 || !strings.Contains(s.Message, "user.toml:2: ") {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(w.containerd.HostsDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
	w.must(os.Remove(filepath.Join(w.containerd.Dir, "d/user.toml")))
	if s := w.reported(); s.Preflight != "Ready" {
		t.Errorf("%+v", s)
	}
}

func TestHandEditsAreHealedAndReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	w.reported()
	path := filepath.Join(w.containerd.HostsDir, fixedHost, "hosts.toml")
	want, err := os.ReadFile(path)
	w.must(err)
	w.must(os.WriteFile(path, []byte("# mine now\n"), 0o600))
	w.until("the word about it", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Generation == w.generation && strings.Contains(s.Message, "put back what was changed by hand: "+fixedHost+"/hosts.toml")
	})
	if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
		t.Errorf("%s, %v", got, err)
	}
}

// TestTargetMustAnswer: a report needs the target, a standing report does not,
// not even after a restart of the agent.
func TestTargetMustAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, a := registry(t, "team/a")
	r.Stop()
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	s := w.until("a registry that is not there", func(s registryv1alpha1.RegistryNodeStatus) bool { return len(s.Upstreams) > 0 })
	if s.Generation != 0 || s.Upstreams[0].Reached || !s.Redirects[0].Proved || !strings.Contains(s.Message, "target "+a.String()) {
		t.Errorf("%+v", s)
	}
	r.Start(t)
	w.reported()

	r.Stop()
	w.stopNode()
	w.startNode()
	s = w.until("the dead registry", func(s registryv1alpha1.RegistryNodeStatus) bool { return !s.Upstreams[0].Reached })
	if s.Generation != w.generation || s.Version == "" {
		t.Errorf("the report was taken back: %+v", s)
	}
}

// TestAfterAReboot: what an earlier boot proved is no proof, but a target that served
// this very layout to this node need not be there: it may run in this cluster, and
// wait for the node. Whatever was never proved waits for its target.
func TestAfterAReboot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, a := registry(t, "team/a")
	w.node.AliveFile = filepath.Join(t.TempDir(), "alive")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	w.reported()
	if err := watchdog.Stamped(w.node.AliveFile); err != nil {
		t.Errorf("the agent works, and the kubelet hears: %v", err)
	}
	r.Stop()
	reboot := func(id string) registryv1alpha1.RegistryNodeStatus {
		t.Helper()
		w.stopNode()
		w.node.BootID = id
		w.startNode()
		return w.until("proofs of "+id, func(s registryv1alpha1.RegistryNodeStatus) bool {
			return s.BootID == id && len(s.Redirects) > 0 && s.Redirects[0].Proved
		})
	}
	s := reboot("boot-2")
	if s.Generation != w.generation || s.Version == "" {
		t.Errorf("generation %d is reported: %+v", s.Generation, s)
	}
	if len(s.Upstreams) != 1 || s.Upstreams[0].Reached || !strings.Contains(s.Message, s.Upstreams[0].Message) {
		t.Errorf("the report does not say that the target is away: %+v", s)
	}
	// Installed anew under the same name, with the old disk.
	w.owner("another-uid")
	if s := reboot("boot-3"); s.Generation != 0 || s.NodeUID != "another-uid" {
		t.Errorf("another node: %+v", s)
	}
	w.owner(w.uid)
	if s := reboot("boot-4"); s.Generation != w.generation {
		t.Errorf("the node of before: %+v", s)
	}
	w.stopNode()
	w.publish(a, []layout.Name{layout.Fixed(), layout.NameOf(a)})
	w.eventually("the serving half has the next generation", func() bool { return w.routed(layout.NameOf(a)) })
	if s := reboot("boot-5"); s.Generation != 0 || s.Served != w.generation {
		t.Errorf("a generation that was never proved, and is served: %+v", s)
	}
}

// owner makes another Node the owner of the own RegistryNode.
func (w *world) owner(uid string) {
	w.t.Helper()
	var own registryv1alpha1.RegistryNode
	w.must(w.api.Client().Get(w.t.Context(), client.ObjectKey{Name: w.name}, &own))
	base := own.DeepCopy()
	own.OwnerReferences[0].UID = types.UID(uid)
	w.must(w.api.Client().Patch(w.t.Context(), &own, client.MergeFrom(base)))
}

// TestCrashBetweenWrites stops the writing of host directories at each
// operation, as a kill -9 would, while containerd pulls: a name that worked
// goes on to work.
func TestCrashBetweenWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	_, b := registry(t, "mirror/b")
	w.start()
	fixed, nameA, nameB := layout.Fixed(), layout.NameOf(a), layout.NameOf(b)
	w.publish(b, []layout.Name{fixed, nameA, nameB}, a) // the agent routes all of them
	w.reported()
	w.stopNode()

	folder, err := hostsdir.MakeDir(w.containerd.HostsDir)
	w.must(err)
	defer func() { _ = folder.Close() }()
	ca, err := os.ReadFile(filepath.Join(w.containerd.HostsDir, fixed.Host, "ca.crt"))
	w.must(err)
	token, err := os.ReadFile(filepath.Join(w.node.StateDir, "serve", "token"))
	w.must(err)
	tree := func(l layout.Layout) hostsdir.Tree {
		tree, err := hostsdir.Render(l, hostsdir.Options{AgentURL: "https://" + w.node.Listen, Token: strings.TrimSpace(string(token)), AgentCA: string(ca)})
		w.must(err)
		return tree
	}
	onlyA := layout.Layout{Target: a, Routes: layout.Cross([]layout.Name{fixed, nameA}, []upstream.Upstream{a})}
	both := layout.Layout{Target: b, Routes: layout.Cross([]layout.Name{fixed, nameA, nameB}, []upstream.Upstream{b, a})}
	second := both
	second.Fallback = layout.Fallback{Host: "192.0.2.1:1", CA: string(ca), Credentials: upstream.Credentials{Username: "n", Password: "p"}}
	onlyB := layout.Layout{Target: b, Routes: layout.Cross([]layout.Name{fixed, nameB}, []upstream.Upstream{b})}

	stops := 0
	for _, step := range []struct {
		from, to layout.Layout
		works    []layout.Name
	}{
		{onlyA, both, []layout.Name{fixed, nameA}},
		{both, second, []layout.Name{fixed, nameA, nameB}},
		{second, both, []layout.Name{fixed, nameA, nameB}},
		{both, onlyB, []layout.Name{fixed, nameB}},
	} {
		for n := 1; ; n++ {
			_, err := hostsdir.Apply(folder, tree(step.from))
			w.must(err)
			_, stopped := hostsdir.Apply(durabletest.NewProcess(n, durabletest.Half).FS(folder), tree(step.to))
			for _, name := range step.works {
				if err := w.pull(name.Reference("app:v1")); err != nil {
					t.Errorf("stopped at operation %d: %v", n, err)
				}
			}
			if stopped == nil {
				break
			}
			stops++
		}
	}
	if stops < 32 {
		t.Errorf("only %d operations were stopped at", stops)
	}
}
