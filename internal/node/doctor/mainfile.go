package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/mainfile"
)

// mainFile reports the edit of containerd's main file, if one is needed.
func (e *examination) mainFile() {
	f, r := e.facts, e.report
	if f.NeedsPath == "" || f.Preflight != containerd.Ready {
		return
	}
	path := filepath.Join("/proc", strconv.Itoa(f.PID), "root", f.PathFile)
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.Problems = append(r.Problems, f.PathFile+" cannot be read: "+err.Error())
		return
	}
	after, err := mainfile.SetConfigPath(before, f.Major(), f.NeedsPath)
	var refusal *mainfile.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Line > 0:
		r.Problems = append(r.Problems, f.PathFile+":"+strconv.Itoa(refusal.Line)+": "+refusal.Sentence)
	case err != nil:
		r.Problems = append(r.Problems, f.PathFile+": "+err.Error())
	default:
		r.Restart = true
		r.Changes = append(r.Changes, Change{
			File: f.PathFile, What: "set config_path, then restart containerd once: " + f.NeedsPathReason,
			Diff: unified(f.PathFile, before, after),
		})
	}
}
