package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// defaultDropIns is imported by containerd 2 where nobody says otherwise.
const defaultDropIns = "/etc/containerd/conf.d/*.toml"

// document is the little that we read of a configuration file, or of
// `containerd config dump`.
type document struct {
	Imports []string `toml:"imports"`
	Plugins struct {
		Images plugin `toml:"io.containerd.cri.v1.images"`
		// V1 is the name in files in the format of containerd 1.x, which 2.x
		// migrates as it reads.
		V1 plugin `toml:"io.containerd.grpc.v1.cri"`
	} `toml:"plugins"`
}

type plugin struct {
	Registry registrySection `toml:"registry"`

	UseLocalImagePull          bool  `toml:"use_local_image_pull"`
	DiscardUnpackedLayers      bool  `toml:"discard_unpacked_layers"`
	ImagePullWithSyncFs        bool  `toml:"image_pull_with_sync_fs"`
	DisableSnapshotAnnotations *bool `toml:"disable_snapshot_annotations"`
	MaxConcurrentDownloads     *int  `toml:"max_concurrent_downloads"`
}

// local reports whether containerd pulls in its CRI plugin and not through its
// transfer service: it falls back to that for settings that the service does
// not know.
func (p plugin) local() bool {
	return len(p.Registry.custom()) > 0 || p.UseLocalImagePull || p.DiscardUnpackedLayers || p.ImagePullWithSyncFs ||
		p.DisableSnapshotAnnotations != nil && !*p.DisableSnapshotAnnotations ||
		p.MaxConcurrentDownloads != nil && *p.MaxConcurrentDownloads != 3
}

// directory is the first one in which containerd looks for hosts. nowhere is
// set when it looks in none, although one is named: the transfer service takes
// a list for the name of one directory, which nobody has; a pull in the CRI
// plugin goes through the list.
func (p plugin) directory(version string) (first string, nowhere bool) {
	path := p.Registry.ConfigPath
	if path == "" && len(p.Registry.Mirrors) == 0 {
		path = stockPath
	}
	first, _, list := strings.Cut(path, ":")
	return first, list && !p.local() && !older(version, 2, 1)
}

type registrySection struct {
	ConfigPath string         `toml:"config_path"`
	Mirrors    map[string]any `toml:"mirrors"`
	Configs    map[string]any `toml:"configs"`
	Auths      map[string]any `toml:"auths"`
}

// custom names the settings that a user made in the old format.
func (r registrySection) custom() []string {
	var out []string
	for name, table := range map[string]map[string]any{"mirrors": r.Mirrors, "configs": r.Configs, "auths": r.Auths} {
		if len(table) > 0 {
			out = append(out, "registry."+name)
		}
	}
	slices.Sort(out)
	return out
}

// configFile is one file of the configuration, with what was found in it.
type configFile struct {
	path    string // as containerd sees it
	doc     document
	problem string // why it cannot be parsed; never its content
}

// files reads the main file and everything that it imports, as containerd
// would. root is put before every path. Missing files are no problem:
// containerd starts without a main file.
func files(root, main string, imports []string) []configFile {
	var out []configFile
	seen := map[string]bool{}
	var visit func(path string)
	visit = func(path string) {
		if seen[path] || len(out) > 1000 {
			return
		}
		seen[path] = true
		f := configFile{path: path}
		data, err := os.ReadFile(filepath.Join(root, path))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			f.problem = "cannot be read"
		} else if err := toml.Unmarshal(data, &f.doc); err != nil {
			f.problem = position(err)
		}
		out = append(out, f)
		for _, p := range matches(root, filepath.Dir(path), f.doc.Imports) {
			visit(p)
		}
	}
	visit(main)
	for _, p := range matches(root, filepath.Dir(main), imports) {
		visit(p)
	}
	return out
}

// matches expands import patterns relative to the directory of the importing
// file.
func matches(root, dir string, patterns []string) []string {
	var out []string
	for _, p := range patterns {
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		found, err := filepath.Glob(filepath.Join(root, p))
		if err != nil {
			continue // containerd itself refuses a bad pattern; its dump says so
		}
		for _, f := range found {
			out = append(out, "/"+strings.TrimPrefix(strings.TrimPrefix(f, filepath.Clean(root)), "/"))
		}
	}
	slices.Sort(out)
	return out
}

// configDirs are the existing directories that hold, or may hold, files of the
// configuration.
func configDirs(root, main string, imports []string) []string {
	patterns := append([]string{main, defaultDropIns}, imports...)
	for _, f := range files(root, main, imports) {
		patterns = append(patterns, f.path)
	}
	var out []string
	for _, p := range patterns {
		if !filepath.IsAbs(p) {
			p = filepath.Join(filepath.Dir(main), p)
		}
		dir := filepath.Join(root, filepath.Dir(p))
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			out = append(out, dir)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// position says where a file stops being TOML. The parser's own words may
// quote the file, and with it somebody's password.
func position(err error) string {
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		row, column := decode.Position()
		return fmt.Sprintf("is not valid TOML at line %d, column %d", row, column)
	}
	return "is not valid TOML"
}
