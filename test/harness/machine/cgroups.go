package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cgroupFile names the control groups of a run, one in a line. They are the one
// thing of a run that lies outside its folder.
const cgroupFile = "cgroups"

// CgroupV2 reports whether this machine has one tree of control groups, not one
// for each controller.
func CgroupV2() bool {
	return isFile("/sys/fs/cgroup/cgroup.controllers")
}

// cgroupTrees are the roots of all hierarchies of control groups.
func cgroupTrees() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the control groups: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	var trees []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		mount, what, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if ok && len(fields) > 4 && strings.HasPrefix(what, "cgroup") && !slices.Contains(trees, fields[4]) {
			trees = append(trees, fields[4])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("find the control groups: %w", err)
	}
	if len(trees) == 0 {
		return nil, errors.New("find the control groups: none are mounted")
	}
	return trees, nil
}

// cgroupPrefix begins the names of all control groups that runs make.
const cgroupPrefix = "d8-registry-"

// MakeCgroup makes a control group in every hierarchy, for pods to be put below
// it. Its path is returned; the end of the run, or the next run, removes it.
func (r *Run) MakeCgroup(name string) (string, error) {
	name = cgroupPrefix + r.ID + "-" + name
	trees, err := cgroupTrees()
	if err != nil {
		return "", err
	}
	if err := r.noteCgroup(name); err != nil {
		return "", err
	}
	for _, tree := range trees {
		dir := filepath.Join(tree, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("make a control group: %w", err)
		}
		if err := fillCgroup(tree, dir); err != nil {
			return "", err
		}
	}
	return "/" + name, nil
}

func (r *Run) noteCgroup(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.OpenFile(r.Path(cgroupFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("record control group %s: %w", name, err)
	}
	_, err = fmt.Fprintln(f, name)
	return errors.Join(err, f.Close())
}

// fillCgroup gives a new control group what its children can only inherit.
func fillCgroup(tree, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // v1: new ones are empty
		data, err := os.ReadFile(filepath.Join(tree, file))
		if err != nil {
			continue // not the hierarchy of cpuset, or v2
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			return fmt.Errorf("fill a control group: %w", err)
		}
	}
	data, err := os.ReadFile(filepath.Join(tree, "cgroup.controllers"))
	if err != nil || tree != "/sys/fs/cgroup" {
		return nil // v1, or v2 without a part in what the kubelet does
	}
	for _, parent := range []string{tree, dir} {
		for controller := range strings.FieldsSeq(string(data)) {
			if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+controller), 0o600); err != nil {
				return fmt.Errorf("hand controller %s on to a control group: %w", controller, err)
			}
		}
	}
	return nil
}

// RemoveCgroup removes a control group that MakeCgroup made, and all below it.
// The processes in it must have been killed.
func (r *Run) RemoveCgroup(path string) error {
	return removeCgroup(strings.TrimPrefix(path, "/"))
}

// removeCgroups removes the control groups that a run's folder names.
func removeCgroups(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, cgroupFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the control groups of a run: %w", err)
	}
	for name := range strings.FieldsSeq(string(data)) {
		if !strings.HasPrefix(name, cgroupPrefix) || strings.Contains(name, "/") {
			continue // a line that was cut off names nothing of ours
		}
		if err := removeCgroup(name); err != nil {
			return err
		}
	}
	return nil
}

func removeCgroup(name string) error {
	trees, err := cgroupTrees()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		if err := removeBusyTree(filepath.Join(tree, name)); err != nil {
			return err
		}
	}
	return nil
}

// removeBusyTree tries for a while: for a moment after the last process of a
// group was killed it is still busy.
func removeBusyTree(root string) error {
	late := time.After(stopAfter)
	for {
		err := removeTree(root)
		if err == nil {
			return nil
		}
		select {
		case <-late:
			return err
		case <-time.After(pollEvery):
		}
	}
}

// removeTree removes folders of control groups, children first. Their files
// cannot be removed and need not be.
func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
			return nil // it went meanwhile
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look into control group %s: %w", root, err)
	}
	for _, dir := range slices.Backward(dirs) {
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("remove control group %s: %w", dir, err)
		}
	}
	return nil
}
