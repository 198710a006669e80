package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/d8-registry/registry/internal/containerd"
	"github.com/d8-registry/registry/internal/hostsdir"
)

// abode is where host directories are, and the run of containerd that was seen
// with them there.
type abode struct{ effective, instance string }

// settleIn notes where the host directories are now. Those in the directory
// that containerd's configuration named before are ours to remove.
func (a *Agent) settleIn(facts *containerd.Facts) {
	if a.home.effective != "" && a.home.effective != facts.Effective {
		a.left = a.home
	}
	if a.left.effective == facts.Effective {
		a.left = abode{} // it came back
	}
	a.home = abode{facts.Effective, facts.Instance}
}

// clearOut empties the directory that was left, once another run of containerd
// is proved to use the new one: the one before goes on with the old.
func (a *Agent) clearOut(v *view, facts *containerd.Facts) {
	if a.left.effective == "" || a.left.instance == facts.Instance {
		return
	}
	root, found := strings.CutSuffix(facts.Folder, facts.Effective)
	if !found {
		return
	}
	path := filepath.Join(root, a.left.effective)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		a.left = abode{}
		return
	}
	folder, err := hostsdir.OpenFolder(path)
	if err == nil {
		defer func() { _ = folder.Close() }()
		_, err = hostsdir.Apply(folder, nil)
	}
	if err != nil {
		v.trouble("clear %s, which containerd no longer uses: %v", a.left.effective, err)
		return
	}
	a.log.Info("host directories removed where containerd no longer looks", "directory", a.left.effective)
	a.left = abode{}
}
