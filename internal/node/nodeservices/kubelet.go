package nodeservices

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sigs.k8s.io/yaml"
)

// ErrNoStaticPods says that the kubelet of this node takes no static pods, or that it cannot
// be seen from where. A DaemonSet is the way then.
var ErrNoStaticPods = errors.New("no static pods here")

// StaticPodPath is the folder in which the kubelet of the host looks for static pods, as the
// host sees it. proc is the host's list of processes. It goes by the kubelet's arguments, then
// by its drop-ins, then by its file, as the kubelet does. A kubelet that is part of another
// program (k3s), or in a container (Talos), is none: it would be a guess.
func StaticPodPath(proc string) (string, error) {
	args, at, err := kubelet(proc)
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(filepath.Join(at, "root"))
	if err != nil {
		return "", fmt.Errorf("%w: look at the kubelet's files: %w", ErrNoStaticPods, err)
	}
	defer func() { _ = root.Close() }()
	dir, err := os.Readlink(filepath.Join(at, "cwd"))
	if err != nil {
		return "", fmt.Errorf("%w: look at the kubelet's process: %w", ErrNoStaticPods, err)
	}
	found, ok := argument(args, "pod-manifest-path")
	if ok {
		found = under(dir, found)
	} else if found, err = configured(root, dir, args); err != nil {
		return "", fmt.Errorf("%w: read what the kubelet is configured with: %w", ErrNoStaticPods, err)
	}
	if found == "" {
		return "", fmt.Errorf("%w: the kubelet is given no staticPodPath", ErrNoStaticPods)
	}
	found = path.Clean(found)
	if info, err := root.Lstat(inHost(found)); err == nil && !info.IsDir() {
		return "", fmt.Errorf("%w: %s is no folder, but %s", ErrNoStaticPods, found, kind(info))
	}
	return found, nil
}

// kubelet is the arguments of the host's kubelet, and its folder in the list of processes. A
// process of another user, or one that sees other files than the host, only has its name.
func kubelet(proc string) (args []string, at string, err error) {
	host, err := os.Readlink(filepath.Join(proc, "1", "ns", "mnt"))
	if err != nil {
		return nil, "", fmt.Errorf("%w: look at the host's first process: %w", ErrNoStaticPods, err)
	}
	processes, err := os.ReadDir(proc)
	if err != nil {
		return nil, "", fmt.Errorf("%w: look for the kubelet: %w", ErrNoStaticPods, err)
	}
	for _, p := range processes {
		at := filepath.Join(proc, p.Name())
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join(at, "cmdline"))
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		files, errFiles := os.Readlink(filepath.Join(at, "ns", "mnt"))
		info, errInfo := os.Stat(at)
		if path.Base(args[0]) != "kubelet" || errFiles != nil || errInfo != nil || files != host {
			continue
		}
		if owner, _ := ownerOf(info); owner == os.Geteuid() {
			return args[1:], at, nil
		}
	}
	return nil, "", fmt.Errorf("%w: no kubelet runs as a process of its own", ErrNoStaticPods)
}

// argument is the value of a flag; the last one counts.
func argument(args []string, name string) (value string, ok bool) {
	for i, arg := range args {
		if v, is := strings.CutPrefix(arg, "--"+name+"="); is {
			value, ok = v, true
		} else if arg == "--"+name && i+1 < len(args) {
			value, ok = args[i+1], true
		}
	}
	return value, ok
}

// configured is what the kubelet's file says, or the last of its drop-ins that says anything.
func configured(root *os.Root, dir string, args []string) (string, error) {
	var files []string
	if main, ok := argument(args, "config"); ok && main != "" {
		files = append(files, under(dir, main))
	}
	if drops, ok := argument(args, "config-dir"); ok && drops != "" {
		var more []string
		err := fs.WalkDir(root.FS(), inHost(under(dir, drops)), func(name string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && path.Ext(name) == ".conf" {
				more = append(more, "/"+name)
			}
			return err
		})
		if err != nil {
			return "", err
		}
		slices.Sort(more)
		files = append(files, more...)
	}
	found := ""
	for _, name := range files {
		text, err := readIn(root, inHost(name))
		if err != nil {
			return "", err
		}
		var said struct {
			StaticPodPath *string `json:"staticPodPath"`
		}
		if err := yaml.Unmarshal(text, &said); err != nil {
			return "", fmt.Errorf("read %s: it is no YAML", name) // the cause may quote the file
		}
		if said.StaticPodPath != nil && *said.StaticPodPath != "" {
			found = under(path.Dir(name), *said.StaticPodPath)
		}
	}
	return found, nil
}

// readIn reads an ordinary file, and waits for nothing else.
func readIn(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("/%s is no file that a kubelet reads", name)
	}
	return root.ReadFile(name)
}

func under(dir, name string) string {
	if name == "" || path.IsAbs(name) {
		return name
	}
	return path.Join(dir, name)
}
