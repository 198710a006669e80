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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Settings are containerd's configuration as it will be after its next start, with
// defaults, imports and migrations.
type Settings struct {
	// Version is that of containerd's binary on disk.
	Version string
	// ConfigPath is as written, Paths its entries.
	ConfigPath string
	Paths      []string
	PullPath   PullPath
	// Looks are the directories in which a pull for the kubelet looks for
	// hosts, in order; Effective is the first of them, empty if there is none.
	Looks     []string
	Effective string
	// Legacy are the kinds of registry settings in the old format:
	// registry.auths, registry.configs, registry.mirrors.
	Legacy       []string
	SandboxImage string
	// Raw is the whole dump. It holds passwords.
	Raw []byte

	disabled []string // plugins
	// noRuntime is the runtime that pods get by default, if it has no table.
	noRuntime string
}

// Dump asks the process's own binary how it understands a main file, named as
// containerd sees it. Errors never quote the configuration.
func Dump(ctx context.Context, p Process, file string) (Settings, error) {
	args := []string{"--config", file, "config", "dump"}
	if _, err := os.Stat(filepath.Join(p.Root(), file)); errors.Is(err, fs.ErrNotExist) {
		args = []string{"config", "default"} // containerd 1.x cannot dump what is not there
	}
	raw, err := p.run(ctx, args...)
	if err != nil {
		return Settings{}, err
	}
	version, err := p.ownVersion(ctx)
	if err != nil {
		return Settings{}, err
	}
	return understand(raw, version)
}

// run executes containerd's own binary in containerd's own root. Its standard
// error is thrown away: it quotes the configuration, with passwords.
func (p Process) run(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Binary, args...)
	if p.Name != "" {
		cmd.Args[0] = p.Name
	}
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = p.dir() // containerd 1.6 takes relative import patterns from there
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.Root()}
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s %s: %w", p.Binary, strings.Join(args, " "), err)
	}
	return out.Bytes(), nil
}

// ownVersion is that of the binary on disk. After an upgrade without a restart, it
// differs from the one that runs.
func (p Process) ownVersion(ctx context.Context) (string, error) {
	out, err := p.run(ctx, "--version")
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(out)) // containerd PACKAGE VERSION REVISION
	if len(fields) < 3 {
		return "", fmt.Errorf("run %s --version: it says nothing of its version", p.Binary)
	}
	return fields[2], nil
}

// dumped is what we read of `containerd config dump`.
type dumped struct {
	DisabledPlugins []string `toml:"disabled_plugins"`
	Plugins         struct {
		Images  plugin  `toml:"io.containerd.cri.v1.images"`  // containerd 2
		Runtime running `toml:"io.containerd.cri.v1.runtime"` // containerd 2
		CRI     struct {
			plugin
			running
		} `toml:"io.containerd.grpc.v1.cri"` // containerd 1
	} `toml:"plugins"`
}

type plugin struct {
	Registry     registrySection   `toml:"registry"`
	SandboxImage string            `toml:"sandbox_image"`
	PinnedImages map[string]string `toml:"pinned_images"`

	UseLocalImagePull          bool  `toml:"use_local_image_pull"`
	DiscardUnpackedLayers      bool  `toml:"discard_unpacked_layers"`
	ImagePullWithSyncFs        bool  `toml:"image_pull_with_sync_fs"`
	DisableSnapshotAnnotations *bool `toml:"disable_snapshot_annotations"`
	MaxConcurrentDownloads     *int  `toml:"max_concurrent_downloads"`
}

// running is the part that runs containers.
type running struct {
	Containerd struct {
		DefaultRuntimeName string         `toml:"default_runtime_name"`
		Runtimes           map[string]any `toml:"runtimes"`
	} `toml:"containerd"`
}

// missing is the runtime that pods get by default, if it has no table: then the
// plugin does not load.
func (r running) missing() string {
	if _, there := r.Containerd.Runtimes[r.Containerd.DefaultRuntimeName]; there {
		return ""
	}
	return r.Containerd.DefaultRuntimeName
}

type registrySection struct {
	ConfigPath string         `toml:"config_path"`
	Mirrors    map[string]any `toml:"mirrors"`
	Configs    map[string]any `toml:"configs"`
	Auths      map[string]any `toml:"auths"`
}

// legacy names the settings in the old format.
func (r registrySection) legacy() []string {
	var out []string
	for name, table := range map[string]map[string]any{"mirrors": r.Mirrors, "configs": r.Configs, "auths": r.Auths} {
		if len(table) > 0 {
			out = append(out, "registry."+name)
		}
	}
	slices.Sort(out)
	return out
}

// understand reads a dump of that version of containerd.
func understand(raw []byte, version string) (Settings, error) {
	var doc dumped
	if err := toml.Unmarshal(raw, &doc); err != nil {
		return Settings{}, fmt.Errorf("`containerd config dump` %w", notTOML(err))
	}
	p, run := doc.Plugins.Images, doc.Plugins.Runtime
	if Older(version, 2, 0) {
		p, run = doc.Plugins.CRI.plugin, doc.Plugins.CRI.running
	}
	s := Settings{
		Version: version, ConfigPath: p.Registry.ConfigPath, Paths: filepath.SplitList(p.Registry.ConfigPath),
		Legacy: p.Registry.legacy(), PullPath: p.pullPath(version), SandboxImage: cmp.Or(p.PinnedImages["sandbox"], p.SandboxImage), Raw: raw,
		disabled: doc.DisabledPlugins, noRuntime: run.missing(),
	}
	s.Looks = s.Paths
	if len(s.Paths) == 0 && len(p.Registry.Mirrors) == 0 && !Older(version, 2, 2) {
		s.Looks = filepath.SplitList(stockPath)
	}
	if s.PullPath == PullTransfer && len(s.Looks) > 1 {
		s.Looks = nil // it looks into one directory that has the whole list for its name
	}
	if len(s.Looks) > 0 {
		s.Effective = s.Looks[0]
	}
	return s, nil
}

// pullPath is local if containerd does not use its transfer service for the
// kubelet's pulls: in old versions, and with settings that the service does not
// support.
func (p plugin) pullPath(version string) PullPath {
	if Older(version, 2, 1) || len(p.Registry.legacy()) > 0 || p.UseLocalImagePull || p.DiscardUnpackedLayers || p.ImagePullWithSyncFs ||
		p.DisableSnapshotAnnotations != nil && !*p.DisableSnapshotAnnotations ||
		p.MaxConcurrentDownloads != nil && *p.MaxConcurrentDownloads != 3 {
		return PullLocal
	}
	return PullTransfer
}

// notTOML says where a text is no TOML. The parser's error may quote a password.
func notTOML(err error) error {
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		row, column := decode.Position()
		return fmt.Errorf("is not valid TOML at line %d, column %d", row, column)
	}
	return errors.New("is not valid TOML")
}
