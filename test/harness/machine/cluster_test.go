package machine_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/machine"
	"github.com/d8-registry/registry/test/harness/parts"
)

// TestEveryNodePullsFromBothRegistries starts the whole harness without the
// product: real API server, registries and containerds. A node that joins later is as the others.
func TestEveryNodePullsFromBothRegistries(t *testing.T) {
	c := start(t, "")
	joined, err := c.AddNode(t.Context(), "worker-2")
	if err != nil {
		t.Fatal(err)
	}
	if found, err := c.Node("worker-2"); err != nil || found != joined || c.Nodes[3] != joined {
		t.Errorf("the node that joined: %v, %v", found, err)
	}
	const basic, bearer = 0, 1
	image, err := c.Platform.Image("module/image-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, registry := range []int{basic, bearer} {
		g := c.Registries[registry]
		for _, n := range c.Nodes {
			reference := image.Reference(g.Base())
			if err := n.Pull(t.Context(), reference, machine.Login{Username: "puller", Password: "wrong"}); err == nil {
				t.Errorf("%s pulled %s with a wrong password", n.Name, reference)
			}
			if err := n.Pull(t.Context(), reference, machine.Login{Username: "puller", Password: "secret"}); err != nil {
				t.Errorf("%s does not pull %s: %v", n.Name, reference, err)
			}
			if err := n.Forget(t.Context(), image); err != nil {
				t.Error(err)
			}
		}
		downloads, err := g.Log.Downloads()
		if err != nil {
			t.Fatal(err)
		}
		if want := len(c.Nodes) * len(image.Blobs); len(downloads) != want {
			t.Errorf("%s logged %d downloads, want %d: %v", g.Host, len(downloads), want, downloads)
		}
	}
}

// start starts a cluster; ours is the folder of the product's programs, if any.
func start(t *testing.T, ours string) *machine.Cluster {
	t.Helper()
	parts.Need(t)
	if missing := machine.Missing(); len(missing) > 0 {
		t.Skip("missing:", missing)
	}
	binaries, err := machine.FindBinaries(filepath.Join("..", "..", "..", ".parts", "bin"))
	if err != nil {
		t.Skip("real parts are missing (make parts):", err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	run, err := machine.NewRun(t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(run.LogEnds(700))
		}
		if err := run.Close(false); err != nil {
			t.Error(err)
		}
	})
	options := machine.Options{
		Binaries: binaries, Ours: ours,
		Registries: []machine.RegistryOptions{
			{Host: "registry-a.example.test", Path: "deckhouse/ee", Users: map[string]string{"puller": "secret"}},
			{Host: "registry-b.example.test:5000", Path: "mirror/dh", Bearer: true, Users: map[string]string{"puller": "secret"}},
		},
		ControlPlane: []string{"master-0"}, Workers: []string{"worker-0", "worker-1"},
	}
	for i := range 4 {
		options.Images = append(options.Images, fmt.Sprintf("module/image-%d", i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := machine.Start(ctx, run, options, log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
