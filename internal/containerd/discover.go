package containerd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"
)

// Discover looks at the containerd behind the client. An error means that it
// could not be asked just now; everything else is in the Facts.
func Discover(ctx context.Context, c *Client, o Options) (Facts, error) {
	runtime, version, err := c.Version(ctx)
	if err != nil {
		return Facts{}, err
	}
	f := Facts{Runtime: runtime, Version: version}
	if runtime != "containerd" {
		return f.refuse(Unsupported, "the container runtime is %s %s, not containerd", runtime, version), nil
	}
	if older(version, 2, 0) {
		return f.refuse(Unsupported, "containerd %s has no host directory that this agent can use yet; containerd 2 is needed", version), nil
	}
	p, err := Running(ctx, o.Socket)
	if err != nil {
		return f, err
	}
	f.Instance = p.Instance()
	return f.configure(ctx, p, o.Effective), nil
}

// configure reads the configuration of one process.
func (f Facts) configure(ctx context.Context, p Process, override string) Facts {
	f.ConfigDirs = configDirs(p.Root(), p.Config, nil)
	dump, err := dumpConfig(ctx, p)
	if err != nil {
		for _, file := range files(p.Root(), p.Config, []string{defaultDropIns}) {
			if file.problem != "" {
				return f.refuse(Custom, "%s %s; containerd would not start with it", file.path, file.problem)
			}
		}
		return f.refuse(Unsupported, "containerd's configuration cannot be read: %v", err)
	}
	f.ConfigDirs = configDirs(p.Root(), p.Config, dump.Imports)
	registry := dump.Plugins.Images.Registry
	var nowhere bool
	if f.Effective, nowhere = dump.Plugins.Images.directory(f.Version); override != "" {
		f.Effective, nowhere = override, false
	}
	if f.Effective != "" && !filepath.IsAbs(f.Effective) {
		return f.refuse(Unsupported, "config_path %q is not absolute", f.Effective)
	}
	// Until its next start containerd may go on as before.
	f.Folder = filepath.Join(p.Root(), cmp.Or(f.Effective, defaultEffective))
	if nowhere {
		f.Effective = ""
	}
	if custom := registry.custom(); len(custom) > 0 {
		return f.refuse(Custom, "%s has %s; move it to %s/HOST/hosts.toml",
			culprit(p.Root(), p.Config, dump.Imports), strings.Join(custom, ", "), DefaultSource)
	}
	if nowhere {
		return f.refuse(Unsupported, "containerd %s looks for hosts in no directory, because config_path is %s; "+
			"set config_path to one directory, such as %s, and restart containerd",
			f.Version, cmp.Or(registry.ConfigPath, "not set"), defaultEffective)
	}
	if link := foreignLink(p.Root(), f.Effective); link != "" {
		return f.refuse(Unsupported, "%s is a symbolic link to an absolute path, which this agent cannot follow; "+
			"set config_path to where it leads", link)
	}
	if err := writable(f.Folder); err != nil {
		return f.refuse(Unsupported, "%s cannot be written: %v", f.Effective, err)
	}
	f.Preflight = Ready
	return f
}

// number is a version's first and second part: 2 and 4 for "v2.4.2". A part
// that is missing is 0, one that is no number -1.
func number(version string) (major, minor int) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	second, _, _ := strings.Cut(rest, ".")
	return digits(first), digits(second)
}

func digits(s string) int {
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// older reports whether a version is before the one with the given numbers.
func older(version string, major, minor int) bool {
	a, b := number(version)
	return a < major || a == major && b < minor
}

// dumpConfig asks containerd's own binary how it understands its files: with
// defaults, imports and migrations, as after its next start.
func dumpConfig(ctx context.Context, p Process) (document, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Binary, "--config", p.Config, "config", "dump")
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.Root()}
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	// Its standard error quotes the configuration, passwords included.
	if err := cmd.Run(); err != nil {
		return document{}, fmt.Errorf("run %s config dump: %w", p.Binary, err)
	}
	var doc document
	if err := toml.Unmarshal(out.Bytes(), &doc); err != nil {
		return document{}, errors.New("`containerd config dump` " + position(err))
	}
	return doc, nil
}

// culprit is the file that holds registry settings in the old format.
func culprit(root, main string, imports []string) string {
	for _, file := range files(root, main, imports) {
		if len(file.doc.Plugins.Images.Registry.custom())+len(file.doc.Plugins.V1.Registry.custom()) > 0 {
			return file.path
		}
	}
	return "containerd's configuration"
}

// foreignLink is the absolute symbolic link on the way to a directory below
// another root. The kernel would follow it from our own root: into this
// program's container. Where both roots are the same there is none.
func foreignLink(root, path string) string {
	ours, err := os.Stat("/")
	if err != nil {
		return ""
	}
	if theirs, err := os.Stat(root); err == nil && os.SameFile(ours, theirs) {
		return ""
	}
	return absoluteLink(root, path)
}

// absoluteLink goes along a path below root, following relative links.
func absoluteLink(root, path string) string {
	at, rest := "/", strings.Split(filepath.Clean(path), "/")
	for hops := 0; len(rest) > 0 && hops < 255; hops++ {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		to, err := os.Readlink(filepath.Join(root, next))
		switch {
		case err != nil: // no link, or not there yet
			at = next
		case filepath.IsAbs(to):
			return next
		default:
			rest = append(strings.Split(to, "/"), rest...)
		}
	}
	return ""
}

// writable asks the kernel without touching anything: the nearest directory
// that exists must take new entries.
func writable(dir string) error {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("%s is not a directory", dir)
		case err == nil:
			return unix.Access(dir, unix.W_OK|unix.X_OK)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		dir = filepath.Dir(dir)
	}
}
