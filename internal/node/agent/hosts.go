package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/hostsdir"
)

// healed is what was put back last, and when.
type healed struct {
	at   time.Time
	what string
}

// healedFor is how long the report tells of it.
const healedFor = time.Minute

// putHosts makes containerd's host directory look like the tree, and reports
// whether it is.
func (a *Agent) putHosts(v *view, tree hostsdir.Tree, facts *containerd.Facts) bool {
	folder, err := hostsdir.MakeDir(facts.Folder)
	if err != nil {
		v.trouble("%v", err)
		return false
	}
	defer func() { _ = folder.Close() }()
	a.settleIn(facts)
	res, err := hostsdir.Apply(folder, tree)
	if res.Changed() {
		a.log.Info("host directories written", "written", res.Written, "removed", res.Removed)
	}
	if err != nil {
		v.trouble("%v", err)
		return false
	}
	if res.Changed() && a.applied != nil && same(a.applied, tree) {
		a.healed = healed{at: a.now(), what: strings.Join(append(res.Written, res.Removed...), ", ")}
	}
	a.applied = tree
	if a.healed.what != "" && a.now().Sub(a.healed.at) < healedFor {
		v.trouble("put back what was changed by hand: %s", a.healed.what)
	}
	for _, c := range res.Conflicts {
		v.trouble("%s: %s is in the way: %s", c.Host, filepath.Join(directory(facts), c.Directory), c.Reason)
	}
	return true
}

// options are what every entry of ours needs to know of the other half.
func (a *Agent) options() (hostsdir.Options, error) {
	token, err := a.folder.Token()
	if err != nil {
		return hostsdir.Options{}, err
	}
	ca, err := a.folder.CA()
	if err != nil {
		return hostsdir.Options{}, err
	}
	return hostsdir.Options{AgentURL: "https://" + a.cfg.Listen, Token: token, AgentCA: ca}, nil
}

// asWanted looks without writing.
func asWanted(path string, tree hostsdir.Tree) bool {
	if _, err := os.Stat(path); err != nil {
		return errors.Is(err, fs.ErrNotExist) && len(tree) == 0
	}
	folder, err := hostsdir.MakeDir(path)
	if err != nil {
		return false
	}
	defer func() { _ = folder.Close() }()
	res, err := hostsdir.Check(folder, tree)
	return err == nil && !res.Changed()
}

// contentKey names what containerd finds for a host: a proof is good for that.
func contentKey(folder, host string) string {
	sum := sha256.New()
	// The second is the spelling that containerd prefers.
	for _, dir := range []string{host, strings.ReplaceAll(host, ":", "_") + "_"} {
		entries, err := os.ReadDir(filepath.Join(folder, dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			data, err := os.ReadFile(filepath.Join(folder, dir, e.Name()))
			_, _ = fmt.Fprintf(sum, "%s/%s %d %t\n%s", dir, e.Name(), len(data), err == nil, data) // a hash never fails
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func same(a, b hostsdir.Tree) bool {
	return slices.EqualFunc(a, b, func(x, y hostsdir.Directory) bool {
		return x.Host == y.Host && slices.EqualFunc(x.Files, y.Files, func(f, g hostsdir.File) bool {
			return f.Name == g.Name && string(f.Data) == string(g.Data)
		})
	})
}

// watched are the directories in which a change by hand is to be noticed.
func watched(folder string, tree hostsdir.Tree) []string {
	out := []string{folder}
	for _, d := range tree {
		out = append(out, filepath.Join(folder, d.Host))
	}
	return out
}
