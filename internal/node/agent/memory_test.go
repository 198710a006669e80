package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/d8-registry/registry/internal/node/configchange"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hosts"
)

// TestMemoryOfAnEarlierAgent: the file is a contract with agents of other versions,
// earlier and later ones.
func TestMemoryOfAnEarlierAgent(t *testing.T) {
	t.Parallel()
	const earlier = `{"main":{"path":"/etc/containerd/config.toml","unit":"containerd.service","major":1},` +
		`"home":{"directory":"/etc/containerd/certs.d","instance":"boot/2"},` +
		`"left":[{"directory":"/etc/certs.d","instance":"boot/1"}]}`
	dir := t.TempDir()
	state, err := handoff.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "node.json")
	if err := os.WriteFile(file, []byte(earlier), 0o600); err != nil {
		t.Fatal(err)
	}
	main := configchange.MainFile{Path: "/etc/containerd/config.toml", Unit: "containerd.service", Major: 1}
	places := hosts.Places{
		Present: hosts.Place{Directory: "/etc/containerd/certs.d", Instance: "boot/2"},
		Former:  []hosts.Place{{Directory: "/etc/certs.d", Instance: "boot/1"}},
	}
	check := func(when, onDisk string) {
		t.Helper()
		if data, err := os.ReadFile(file); err != nil || string(data) != onDisk {
			t.Errorf("%s: the file is %s, %v", when, data, err)
		}
		m := loadMemory(state, slog.New(slog.DiscardHandler))
		if m.Main != main || !reflect.DeepEqual(m.Places, places) {
			t.Errorf("%s: %+v, %+v", when, m.Main, m.Places)
		}
	}
	check("at the start", earlier)

	main.Path = "/etc/other.toml"
	loadMemory(state, slog.New(slog.DiscardHandler)).saveMain(main)
	check("another main file", `{"main":{"path":"/etc/other.toml","unit":"containerd.service","major":1},`+
		`"home":{"directory":"/etc/containerd/certs.d","instance":"boot/2"},`+
		`"left":[{"directory":"/etc/certs.d","instance":"boot/1"}]}`)

	places = hosts.Places{Present: hosts.Place{Directory: "/etc/moved", Instance: "boot/3"}}
	loadMemory(state, slog.New(slog.DiscardHandler)).savePlaces(places)
	check("another directory", `{"main":{"path":"/etc/other.toml","unit":"containerd.service","major":1},`+
		`"home":{"directory":"/etc/moved","instance":"boot/3"}}`)

	loadMemory(state, slog.New(slog.DiscardHandler)).saveReached(reached{Generation: 7, Version: "v"})
	check("a target reached by nobody", `{"main":{"path":"/etc/other.toml","unit":"containerd.service","major":1},`+
		`"home":{"directory":"/etc/moved","instance":"boot/3"}}`)
	loadMemory(state, slog.New(slog.DiscardHandler)).saveReached(reached{NodeUID: "uid", Generation: 7, Version: "v"})
	check("a target that was reached", `{"main":{"path":"/etc/other.toml","unit":"containerd.service","major":1},`+
		`"home":{"directory":"/etc/moved","instance":"boot/3"},"reached":{"nodeUID":"uid","generation":7,"version":"v"}}`)
}
