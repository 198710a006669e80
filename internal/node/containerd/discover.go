package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Discover finds out about the containerd behind the client. An error means that
// it could not be asked just now; everything else is in the Facts.
func Discover(ctx context.Context, c *Client, o Options) (Facts, error) {
	runtime, version, err := c.Version(ctx)
	if status.Code(err) == codes.Unimplemented {
		return withoutCRI(ctx, o)
	}
	if err != nil {
		return noAnswer(o.Socket, err)
	}
	f := Facts{Runtime: runtime, Version: version}
	if runtime != "containerd" {
		f.refuse(Unsupported, "the container runtime is %s %s, not containerd", runtime, version)
		return f, nil
	}
	if Older(version, 1, 6) {
		f.refuse(Unsupported, "containerd %s is too old; containerd 1.6 is the first that can be configured", version)
		return f, nil
	}
	p, err := Running(ctx, o.Socket)
	if err != nil {
		return f, err
	}
	s := survey{Facts: f}
	s.inspect(ctx, p, o)
	return s.Facts, nil
}

// withoutCRI is for a containerd that runs without its CRI plugin: the plugin does
// not load if its configuration is wrong.
func withoutCRI(ctx context.Context, o Options) (Facts, error) {
	p, err := Running(ctx, o.Socket)
	if err != nil {
		return Facts{}, err
	}
	version, err := p.ownVersion(ctx)
	if err != nil {
		return Facts{}, err
	}
	s := survey{Facts: Facts{Runtime: "containerd", Version: version, WithoutCRI: true}}
	s.inspect(ctx, p, o)
	s.blame()
	return s.Facts, nil
}

// blame says why the CRI plugin does not load. Not all that preflight finds would
// be a reason.
func (s *survey) blame() {
	const what = "containerd runs, but without its CRI plugin, so that no pod can start"
	m, broken := s.breaksCRI()
	switch {
	case broken:
		s.Problems = append([]Problem{m}, s.Problems...)
		s.refuse(Unsupported, "%s: %s", what, m)
	case s.deadlock() != "":
		s.Message = what + ": " + s.Message
	case s.Preflight == Ready:
		s.refuse(Unsupported, "%s; its configuration looks right now: restart containerd, or read in its log why the plugin does not load", what)
	default:
		s.Message = fmt.Sprintf("%s; containerd's log says why. Besides, for a switch: %s", what, s.Message)
	}
}

// noAnswer is for a socket that does not answer: containerd restarts, or the node
// has another runtime.
func noAnswer(socket string, err error) (Facts, error) {
	if _, missing := os.Stat(socket); !errors.Is(missing, fs.ErrNotExist) {
		return Facts{}, err
	}
	run := filepath.Dir(filepath.Dir(socket)) // /run, wherever it is mounted
	for name, where := range map[string]string{
		"CRI-O": "crio/crio.sock", "cri-dockerd": "cri-dockerd.sock",
	} {
		if _, err := os.Stat(filepath.Join(run, where)); err == nil {
			var f Facts
			f.refuse(Unsupported, "the container runtime is %s (%s), not containerd", name, filepath.Join(run, where))
			return f, nil
		}
	}
	return Facts{}, err
}

// survey is one Discover under way. What it has besides the Facts may hold
// passwords.
type survey struct {
	Facts
	settings Settings
	tree     tree
}

// inspect reads everything about one process.
func (s *survey) inspect(ctx context.Context, p Process, o Options) {
	p.Config, o.Source = cmp.Or(o.ConfigFile, p.Config), cmp.Or(o.Source, DefaultSource)
	if o.NoProxy == nil {
		o.NoProxy = []string{serviceHost}
	}
	s.Instance, s.PID, s.Binary, s.Unit, s.ConfigFile = p.Instance(), p.PID, p.Binary, p.unit(), p.Config
	s.Distribution = recognise(p, s.Unit, s.Version)
	s.tree = readTree(p.Root(), p.Config, p.dir(), s.Version)
	s.ConfigDirs = s.tree.directories()
	s.ChangedSince = changedSince(p, s.tree)
	if i := slices.IndexFunc(s.tree.files, func(c configFile) bool { return c.path == p.Config && c.problem == nil }); i >= 0 {
		s.ConfigVersion = s.tree.files[i].version
	}
	if w := proxyWarning(p, s.Unit, o.NoProxy); w != "" {
		s.Warnings = append(s.Warnings, w)
	}
	var err error
	if s.settings, err = Dump(ctx, p, p.Config); err != nil || s.tree.importMissing() {
		s.unreadable(err)
		return
	}
	s.Paths, s.PullPath, s.SandboxImage = s.settings.Paths, s.settings.PullPath, s.settings.SandboxImage
	s.judge(p.Root(), o)
}

// breaksCRI is why the CRI plugin does not load with these files, besides the
// registry settings, which preflight knows.
func (s *survey) breaksCRI() (Problem, bool) {
	switch name := s.settings.noRuntime; {
	case s.settings.lacksCRI():
		return s.tree.disablesCRI(), true
	case name != "":
		return s.lacksRuntime(name), true
	}
	return Problem{}, false
}

// lacksCRI reports whether the CRI plugin is switched off.
func (s Settings) lacksCRI() bool {
	return slices.ContainsFunc(s.disabled, func(name string) bool {
		return name == pluginV1 || name == pluginV2 || name == pluginV3 || name == "io.containerd.cri.v1.runtime"
	})
}

// disablesCRI names the file that switches the plugin off.
func (t *tree) disablesCRI() Problem {
	out := Problem{File: t.main, Key: "disabled_plugins", Text: "holds the CRI plugin (Docker's package containerd.io comes so); take it out and restart containerd"}
	for _, f := range t.files {
		if f.loaded && f.outline.disabled > 0 {
			out.File, out.Line = f.path, f.outline.disabled
			return out
		}
	}
	return out
}

// unreadable reports a configuration with which containerd would not start.
func (s *survey) unreadable(err error) {
	for _, file := range s.tree.files {
		if file.loaded && file.problem != nil {
			s.Problems = append(s.Problems, *file.problem)
		}
	}
	if len(s.Problems) > 0 {
		s.refuse(Custom, "%s%s; containerd would not start with it", s.Problems[0], andMore(s.Problems))
		return
	}
	if s.ConfigVersion > 2 && Older(s.Version, 2, 0) {
		s.Problems = []Problem{{File: s.ConfigFile, Key: "version", Text: fmt.Sprintf("is %d, which containerd %s does not know; 2 is the last that it does", s.ConfigVersion, s.Version)}}
		s.refuse(Custom, "%s", s.Problems[0])
		return
	}
	s.refuse(Unsupported, "containerd's configuration cannot be read (%v); run that on the node to see why", err)
}

// andMore says how many problems there are besides the first.
func andMore(problems []Problem) string {
	switch more := len(problems) - 1; more {
	case 0:
		return ""
	case 1:
		return ", and 1 more problem"
	default:
		return fmt.Sprintf(", and %d more problems", more)
	}
}
