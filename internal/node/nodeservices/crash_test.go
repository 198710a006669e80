package nodeservices

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/pki"
)

// change is a step in the life of a store; nil is none at all.
type change struct{ from, to func(Config) *Config }

func as(c Config) *Config { return &c }

func none(Config) *Config { return nil }

// changes are of all kinds: to a store and away, of files alone, and of the pod with them.
func changes() map[string]change {
	return map[string]change{
		"it comes": {none, as}, "it goes": {as, none},
		"another layout": {as, func(c Config) *Config { c.Layout = []byte("layout 2"); return &c }},
		"no pins":        {as, func(c Config) *Config { c.Pins = nil; return &c }},
		"another image and all files": {as, func(c Config) *Config {
			c.Pod.Image, c.Pod.Version = "registry.example.com/d8/registry:v2", "2"
			c.Layout, c.Users, c.Pins, c.Stores = []byte("layout 2"), []byte("users 2"), []byte("pins 2"), nil
			return &c
		}},
		"another folder": {as, func(c Config) *Config { c.Pod.Path = "/mnt/large/store"; return &c }},
	}
}

// become makes it so, or takes it away.
func become(k *Keeper, c *Config) error {
	if c == nil {
		return k.Remove()
	}
	_, err := k.Apply(*c)
	return err
}

// TestKilledAnywhere kills the process before, after and in the middle of each change of a
// file. A manifest never stands without its files, its files are of before or of after, and
// whole; a manifest of after has all files of after; what is not as wanted is never Written.
// The next process ends as an undisturbed one does.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for name, change := range changes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, kill := range durabletest.Kills() {
				for at := 1; ; at++ {
					h := newHost(t)
					signed := h.signed(some())
					from, to := change.from(signed), change.to(signed)
					if from != nil {
						must(t, become(h.Keeper, from))
					}
					p := durabletest.NewProcess(at, kill)
					err := become(h.dying(p), to)
					where := fmt.Sprintf("killed at %d, %s: %v", at, kill, p.Steps())
					h.stands(where, from, to)
					switch { // somebody has changed their mind meanwhile
					case kill == durabletest.Half && from == nil:
						must(t, h.Remove())
						h.ended(where+", and away", signed, nil)
						signed = h.signed(some())
						to = change.to(signed)
					case kill == durabletest.Half && to != nil:
						must(t, become(h.Keeper, from))
						h.ended(where+", and back", signed, from)
					}
					must(t, become(h.Keeper, to))
					h.ended(where, signed, to)
					if !p.Dead() {
						if err != nil || at < 3 {
							t.Errorf("%s: %v", where, err)
						}
						break
					}
					if !errors.Is(err, durabletest.ErrKilled) {
						t.Errorf("%s: %v", where, err)
					}
				}
			}
		})
	}
}

// stands checks what a kubelet and a store see after a crash.
func (h *host) stands(where string, from, to *Config) {
	h.t.Helper()
	static := h.static()
	if to != nil {
		if f := h.look(*to); f.State == Written && !h.has(*to) {
			h.t.Errorf("%s: it is said to be written", where)
		}
	}
	if static == nil {
		return
	}
	now := h.tree()
	key := content(now["etc/kubernetes/registry/tls.key"])
	if err := (pki.KeyPair{Cert: content(now["etc/kubernetes/registry/tls.crt"]), Key: key}).Belongs(); err != nil {
		h.t.Errorf("%s: a manifest, and %v", where, err)
	}
	ok := func(c *Config) bool {
		return c != nil && static.Spec.Containers[0].Image == c.Pod.Image && static.Spec.Volumes[1].HostPath.Path == c.Pod.Path
	}
	if ok(to) && !ok(from) && !h.has(*to) {
		h.t.Errorf("%s: the manifest of after stands without its files: %v", where, slices.Sorted(maps.Keys(now)))
	}
	for _, f := range h.files(Config{Layout: []byte("x"), Users: []byte("x")}, key)[1:3] {
		got := content(now[f.name])
		if got == "" || !strings.HasPrefix(now[f.name], "-rw------- 64535:64535 ") {
			h.t.Errorf("%s: a manifest, and %s is %q", where, f.name, now[f.name])
		}
	}
	for i, f := range h.files(orZero(from), key) {
		next := h.files(orZero(to), key)[i]
		if got := content(now[f.name]); got != string(f.data) && got != string(next.data) {
			h.t.Errorf("%s: %s is neither of before nor of after: %q", where, f.name, got)
		}
	}
}

// has reports whether all files of a Config are there.
func (h *host) has(c Config) bool {
	now := h.tree()
	for _, f := range h.files(c, content(now["etc/kubernetes/registry/tls.key"])) {
		if content(now[f.name]) != string(f.data) {
			return false
		}
	}
	return strings.HasPrefix(now[inHost(c.Pod.Path)], "drwx------ 64535:64535")
}

// ended checks that all is as wanted, and nothing is left of a crash.
func (h *host) ended(where string, signed Config, to *Config) {
	h.t.Helper()
	want := Nothing
	if to != nil {
		want, signed = Written, *to
	}
	if f := h.look(signed); f.State != want || to != nil && !h.has(*to) {
		h.t.Errorf("%s, and again: %+v", where, f)
	}
	for name := range h.tree() {
		if strings.HasSuffix(name, ".new") {
			h.t.Errorf("%s: %s is left", where, name)
		}
	}
}

func orZero(c *Config) Config {
	if c == nil {
		return Config{}
	}
	return *c
}

// content is that of a file of tree, without mode and owner.
func content(text string) string {
	parts := strings.SplitN(text, " ", 3)
	return parts[len(parts)-1]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFilesRestartNoStore: the kubelet restarts what has another manifest.
func TestFilesRestartNoStore(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.signed(some())
	h.apply(c)
	seen := &durabletest.FS{FS: h.root}
	h.host = seen
	c.Layout, c.Users, c.Pins, c.Stores = []byte("layout 2"), []byte("users 2"), nil, []byte("stores 2")
	if f := h.apply(h.signed(c)); f.State != Written {
		t.Errorf("%+v", f)
	}
	for _, change := range seen.Changes {
		if strings.Contains(change.Name, "manifests") {
			t.Errorf("%v", change)
		}
	}
}

// TestPowerCutKeepsTheOrder: what a manifest needs is on disk before it, also what a process
// that was killed has renamed; and a manifest is gone from the disk before its files go.
func TestPowerCutKeepsTheOrder(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.signed(some())
	killed := durabletest.NewProcess(1000, durabletest.Before)
	k := h.dying(killed)
	must(t, become(k, &c))
	before := slices.Index(killed.Steps(), "sync etc/kubernetes/registry")
	if before < 0 {
		t.Fatalf("%q", killed.Steps())
	}
	// Another host, whose process is killed before that.
	h = newHost(t)
	c = h.signed(some())
	if err := become(h.dying(durabletest.NewProcess(before+1, durabletest.Before)), &c); !errors.Is(err, durabletest.ErrKilled) {
		t.Fatal(err)
	}
	seen := &durabletest.FS{FS: h.root}
	h.host = seen
	h.apply(c)
	inOrder(t, seen.Changes, "sync etc/kubernetes/registry", "rename "+manifestFile, "sync etc/kubernetes/manifests")
	seen.Changes = nil
	must(t, h.Remove())
	inOrder(t, seen.Changes, "remove "+manifestFile, "sync etc/kubernetes/manifests", "remove etc/kubernetes/registry/tls.crt", "remove etc/kubernetes/registry/tls.key", "sync etc/kubernetes/registry")
}

func inOrder(t *testing.T, changes []durabletest.Change, want ...string) {
	t.Helper()
	at := 0
	for _, c := range changes {
		if at < len(want) && c.String() == want[at] {
			at++
		} else if slices.Contains(want, c.String()) && !strings.HasPrefix(c.String(), "sync ") {
			t.Errorf("%s comes too soon in %v", c, changes)
		}
	}
	if at < len(want) {
		t.Errorf("no %q in its place in %v", want[at], changes)
	}
}
