package containerd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"
)

// configFile is one file of the configuration, with what was found in it.
type configFile struct {
	path    string // as containerd sees it
	version int    // its format, as it says; 1 when it says nothing
	imports []string
	outline outline
	plugins map[string]any // what it says of plugins; it may hold passwords
	problem *Problem       // why it cannot be used; never its content
	// missing is set for an import that is not there.
	missing bool
	// loaded is false for a file in a drop-in directory that nobody imports.
	loaded bool
}

// dropIns is the directory beside the main file for files of the platform's users:
// one for containerd 1.x, another for 2.x.
func dropIns(version string) string {
	if Older(version, 2, 0) {
		return "conf.d"
	}
	return "conf2.d"
}

// tree is containerd's main file and the files that it imports, in the order in
// which containerd loads them; then drop-ins that are not imported.
type tree struct {
	root, main, cwd, version string
	files                    []configFile
	// patterns are import patterns, absolute.
	patterns []string
}

// maxFiles stops a configuration that imports half of the disk.
const maxFiles = 1000

// readTree reads the files as the given version of containerd would. root is
// put before every path. An absent main file is no problem: containerd starts
// without.
func readTree(root, main, cwd, version string) tree {
	t := tree{root: root, main: main, cwd: cwd, version: version}
	pending := []string{main}
	for len(pending) > 0 && len(t.files) < maxFiles {
		path := pending[0]
		pending = pending[1:]
		if t.has(path) {
			continue
		}
		f, err := readFile(root, path)
		if errors.Is(err, fs.ErrNotExist) && path == main {
			break
		}
		f.loaded = true
		t.files = append(t.files, f)
		for _, pattern := range f.imports {
			pattern = t.absolute(path, pattern)
			t.patterns = append(t.patterns, pattern)
			pending = append(pending, t.expand(pattern)...)
		}
	}
	for _, path := range t.dropIns(dropIns(version)) {
		if f, err := readFile(root, path); err == nil && !t.has(path) && len(t.files) < maxFiles {
			t.files = append(t.files, f)
		}
	}
	return t
}

// dropIns are the files in a directory beside the main file.
func (t *tree) dropIns(directory string) []string {
	return t.expand(filepath.Join(filepath.Dir(t.main), directory, "*.toml"))
}

func (t *tree) has(path string) bool {
	return slices.ContainsFunc(t.files, func(f configFile) bool { return f.path == path })
}

// importMissing reports whether an imported file is not there. containerd 2 does
// not start then, but its dump shows no error.
func (t *tree) importMissing() bool {
	return slices.ContainsFunc(t.files, func(f configFile) bool { return f.loaded && f.missing })
}

// absolute is an import as containerd finds it: relative to the importing file.
// Before 1.6.29 and 1.7.16, patterns were relative to the working directory.
func (t *tree) absolute(importer, pattern string) string {
	dir := filepath.Dir(importer)
	if strings.Contains(pattern, "*") && Older(t.version, 2, 0) && (Older(t.version, 1, 6, 29) || !Older(t.version, 1, 7) && Older(t.version, 1, 7, 16)) {
		dir = t.cwd
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(dir, pattern)
	}
	return filepath.Clean(pattern)
}

// expand is what containerd loads for an absolute import. Only a star makes a
// pattern.
func (t *tree) expand(pattern string) []string {
	if !strings.Contains(pattern, "*") {
		return []string{pattern}
	}
	found, err := filepath.Glob(filepath.Join(t.root, pattern))
	if err != nil {
		return nil // containerd itself refuses a bad pattern; its dump says so
	}
	for i, f := range found {
		found[i] = "/" + strings.TrimPrefix(strings.TrimPrefix(f, filepath.Clean(t.root)), "/")
	}
	return found
}

// directories are the existing ones that hold, or may hold, files of the
// configuration, as this program reaches them.
func (t *tree) directories() []string {
	beside := filepath.Dir(t.main)
	patterns := append([]string{
		t.main, filepath.Join(beside, "conf.d", "*"), filepath.Join(beside, "conf2.d", "*"),
	}, t.patterns...)
	var out []string
	for _, p := range patterns {
		dir := filepath.Join(t.root, filepath.Dir(p))
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			out = append(out, dir)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// readFile reads one file. The error says that it could not be read. If it is no
// TOML, that is a problem in the result.
func readFile(root, path string) (configFile, error) {
	f := configFile{path: path, version: 1}
	data, err := readWithin(root, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.missing = true
		f.problem = &Problem{File: path, Text: "is imported but does not exist; take it out of imports, or create it"}
		return f, err
	case err != nil:
		f.problem = &Problem{File: path, Text: "cannot be read: " + reason(err)}
		return f, err
	}
	f.parse(data)
	return f, nil
}

func (f *configFile) parse(data []byte) {
	var head struct {
		Version int            `toml:"version"`
		Imports []string       `toml:"imports"`
		Plugins map[string]any `toml:"plugins"`
	}
	if err := toml.Unmarshal(data, &head); err != nil {
		f.problem = &Problem{File: f.path, Text: "is not valid TOML; repair it"}
		var decode *toml.DecodeError
		if errors.As(err, &decode) { // its words would quote the file
			row, column := decode.Position()
			f.problem.Line, f.problem.Text = row, fmt.Sprintf("is not valid TOML (column %d); repair it", column)
		}
		return
	}
	f.version, f.imports = max(head.Version, 1), head.Imports
	f.outline, f.plugins = findSettings(data), head.Plugins
}

// maxFile is far above any configuration.
const maxFile = 8 << 20

// readWithin reads a file as a process with that root would: absolute links stay
// below root.
func readWithin(root, path string) ([]byte, error) {
	file, err := openWithin(root, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("it is larger than %d MiB", maxFile>>20)
	}
	return data, err
}

func openWithin(root, path string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer func() { _ = unix.Close(dir) }()
	// O_NONBLOCK: do not wait for the writer of a named pipe.
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(dir, strings.TrimPrefix(path, "/"), &how)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old kernel, or an old seccomp profile
		return os.OpenFile(filepath.Join(root, path), os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// reason is an error without the path, which is named anyway.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
