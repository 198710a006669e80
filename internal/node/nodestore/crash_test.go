package nodestore

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/nodeservices"
	"github.com/d8-registry/registry/internal/pki"
)

// disk is what is left of an agent that was killed.
type disk struct {
	root  string
	place Place
}

// agentOn is a node with real files, whose steps are those of a process. Nothing is known of
// what an agent before it has reported.
func agentOn(t *testing.T, d *disk, p *durabletest.Process) *node {
	t.Helper()
	n := newNode(t, d.place)
	n.secret = someSecret()
	n.Save = func(place Place) {
		_ = p.Do("save", func() error { d.place = place; return nil }) // who is killed does not hear of it
	}
	n.Open = func(folder string) (Keeper, func(), error) {
		root, err := durable.OpenDir(d.root)
		if err != nil {
			return nil, nil, err
		}
		return dying{nodeservices.New(root, folder), p, folder}, func() { _ = root.Close() }, nil
	}
	return n
}

// dying is a Keeper in a process that is killed before or after what it does. What a kill
// within that leaves is the subject of nodeservices.
type dying struct {
	Keeper
	*durabletest.Process
	folder string
}

func (d dying) Apply(c nodeservices.Config) (found nodeservices.Found, err error) {
	err = d.Do("apply "+d.folder, func() error { found, err = d.Keeper.Apply(c); return err })
	return found, err
}

func (d dying) Remove() error { return d.Do("remove "+d.folder, d.Keeper.Remove) }

// left is how many files of ours are on the host.
func (d *disk) left(t *testing.T) (count int) {
	t.Helper()
	err := filepath.WalkDir(d.root, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			count++
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return count
}

// TestKilledBetween kills the agent between its steps, while a store comes, moves and goes. The
// next agent, which knows only what is on disk, goes on; and takes all away if the store is
// not wanted any more, although nothing was ever reported.
func TestKilledBetween(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// runs has a store run, if the agent lives: with a certificate for the key that is there.
	runs := func(n *node, spec *v1alpha1.StoreSpec) {
		spec.Certificate = ""
		if s, _ := n.pass(spec, false); s.Request != "" {
			certificate, err := pki.Answer(time.Now(), ca, s.Request, spec.Addresses)
			if err != nil {
				t.Error(err)
			}
			spec.Certificate = certificate
			n.pass(spec, false)
		}
	}
	for name, steps := range map[string]func(n *node){
		"it comes":         func(n *node) { runs(n, someSpec()) },
		"it moves":         func(n *node) { runs(n, someSpec()); n.folder = "/srv/static"; runs(n, someSpec()) },
		"it goes":          func(n *node) { runs(n, someSpec()); n.pass(nil, false) },
		"it is not wanted": func(n *node) { s := someSpec(); s.Approved = ""; runs(n, s); n.pass(nil, true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, kill := range []durabletest.Kill{durabletest.Before, durabletest.After} {
				for at, alive := 1, false; !alive; at++ {
					for _, stays := range []bool{true, false} {
						d := &disk{root: t.TempDir()}
						p := durabletest.NewProcess(at, kill)
						steps(agentOn(t, d, p))
						if d.left(t) > 0 && d.place == (Place{}) {
							t.Errorf("killed at %d %s of %q: files are there, and nobody knows", at, kill, p.Steps())
						}
						next := agentOn(t, d, durabletest.NewProcess(1<<30, durabletest.Before))
						if stays {
							if runs(next, someSpec()); d.left(t) != 7 {
								t.Errorf("killed at %d %s of %q: %d files, want 7", at, kill, p.Steps(), d.left(t))
							}
						}
						next.pass(nil, false)
						if d.left(t) > 0 || (d.place != Place{}) {
							t.Errorf("killed at %d %s of %q: %d files are left, %+v", at, kill, p.Steps(), d.left(t), d.place)
						}
						alive = !p.Dead()
					}
				}
			}
		})
	}
}
