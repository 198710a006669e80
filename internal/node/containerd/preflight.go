package containerd

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// judge decides where our host directories belong, and whether they can be
// written.
func (s *survey) judge(root string, o Options) {
	s.findDirectory(root, o)
	s.HostsDir = filepath.Join(root, s.wanted())
	s.warnUnused()
	s.warnReplaced()
	s.warnUnread()
	if s.Problems = s.custom(o.Source); len(s.Problems) > 0 {
		s.refuse(Custom, "%s", s.customMessage(o.Source))
		return
	}
	if m, broken := s.breaksCRI(); broken && s.NeedsPath != "" {
		s.Problems = []Problem{m}
		s.refuse(Unsupported, "containerd would come up without its CRI plugin after the restart that it needs: %s", m)
		return
	} else if broken {
		s.Warnings = append(s.Warnings, fmt.Sprintf("containerd would come up without its CRI plugin after a restart: %s", m))
	}
	if !filepath.IsAbs(s.wanted()) {
		s.refuse(Unsupported, "config_path %q is not absolute", s.wanted())
		return
	}
	if link := foreignLink(root, s.wanted()); link != "" {
		s.refuse(Unsupported, "%s is a symbolic link to an absolute path, which this agent cannot follow; "+
			"set config_path to where it leads", link)
		return
	}
	if link := foreignLink(root, s.ConfigFile); link != "" && s.NeedsPath != "" && link != s.ConfigFile {
		s.refuse(Unsupported, "%s; %s is a symbolic link to an absolute path, which this agent cannot follow; "+
			"set config_path = %q in %s by hand and restart containerd", s.NeedsPathReason, link, s.NeedsPath, s.ConfigFile)
		return
	}
	if err := writable(s.HostsDir); err != nil {
		s.refuse(Unsupported, "%s cannot be written: %v", s.wanted(), err)
		return
	}
	if s.NeedsPath != "" {
		if reason := s.uneditable(root); reason != "" {
			s.refuse(Unsupported, "%s; %s", s.NeedsPathReason, reason)
			return
		}
		if when, instead := s.Distribution.When(), s.Distribution.Set(s.NeedsPath); when != "" && instead != "" {
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s is written anew %s, and then takes another restart; to spare it, %s", s.ConfigFile, when, instead))
		}
	}
	s.Preflight = Ready
}

// wanted is the directory of our entries, as containerd sees it.
func (s *survey) wanted() string { return cmp.Or(s.Effective, s.NeedsPath) }

// findDirectory finds the directory in which containerd looks for hosts, or what
// config_path must become so that it looks into one.
func (s *survey) findDirectory(root string, o Options) {
	if s.Effective = cmp.Or(o.Effective, s.settings.Effective); s.Effective != "" {
		return
	}
	if len(s.Paths) > 0 {
		s.NeedsPath = s.Paths[0]
		s.NeedsPathReason = fmt.Sprintf("containerd %s looks for hosts in no directory, because config_path is a list (%s), "+
			"which its transfer service takes for the name of one directory", s.Version, s.settings.ConfigPath)
	} else if r, ok := s.replaced(); ok && r.path != "" {
		s.NeedsPath = filepath.SplitList(r.path)[0]
		s.NeedsPathReason = fmt.Sprintf("containerd %s looks for hosts in no directory, because %s and config_path of %s has no effect",
			s.Version, r.how(s.Version), s.ConfigFile)
	} else {
		s.NeedsPath = o.Source
		if entries, err := os.ReadDir(filepath.Join(root, defaultEffective)); err == nil && len(entries) > 0 {
			s.NeedsPath = defaultEffective
		}
		s.NeedsPathReason = fmt.Sprintf("containerd %s looks for hosts in no directory, because config_path is not set", s.Version)
	}
	s.PathFile = s.ConfigFile
	if file, _, ok := s.decides(); ok {
		s.PathFile = file.path
	}
}

// decides is the file from which containerd takes config_path. 1.x takes the whole
// table of its CRI plugin from the last file that has one, 2.x each key from the
// last file that sets it.
func (s *survey) decides() (file configFile, line int, ok bool) {
	for _, c := range s.tree.files {
		if !c.loaded {
			continue
		}
		if Older(s.settings.Version, 2, 0) {
			for plugin, at := range c.outline.plugins {
				if plugin != pluginV3 {
					file, line, ok = c, at, true
				}
			}
			continue
		}
		for _, m := range c.outline.mentions {
			if m.key == "config_path" {
				file, line, ok = c, m.line, true
			}
		}
	}
	return file, line, ok
}

// uneditable says why the agent cannot set config_path, and what the operator can
// do.
func (s *survey) uneditable(root string) string {
	instead := s.Distribution.Set(s.NeedsPath)
	if s.Distribution.Generated() {
		return fmt.Sprintf("%s is written anew whenever %s starts; %s", s.ConfigFile, s.Distribution.Writer, instead)
	}
	if r, ok := s.replaced(); ok && r.path != "" {
		return fmt.Sprintf("set config_path = %q in %s and restart containerd", s.NeedsPath, r.by.path)
	}
	if file, line, ok := s.decides(); ok && file.path != s.ConfigFile {
		return fmt.Sprintf("%s:%d, which %s imports, decides; set config_path = %q there and restart containerd",
			file.path, line, s.ConfigFile, s.NeedsPath)
	}
	for _, c := range s.tree.files {
		if c.path == s.ConfigFile && c.problem != nil {
			return fmt.Sprintf("set config_path = %q yourself and restart containerd: %s", s.NeedsPath, c.problem)
		}
	}
	dir := filepath.Dir(s.ConfigFile)
	if err := writable(filepath.Join(root, dir)); err != nil {
		if instead != "" {
			return fmt.Sprintf("%s cannot be edited (%v); %s", s.ConfigFile, err, instead)
		}
		return fmt.Sprintf("%s cannot be edited (%v); set config_path = %q in it, as this system is configured, and restart containerd",
			s.ConfigFile, err, s.NeedsPath)
	}
	return ""
}

// custom are the user's registry settings that exclude ours, and files that cannot
// be read.
func (s *survey) custom(source string) []Problem {
	var out []Problem
	seen := map[string]bool{}
	for _, c := range s.tree.files {
		if c.problem != nil && !c.loaded {
			out = append(out, *c.problem)
		}
		for _, m := range c.outline.mentions {
			kind := "registry." + m.key
			counts := slices.Contains(s.settings.Legacy, kind)
			if !c.loaded { // the platform may merge it into the main file
				counts = m.key != "config_path" || m.value != "" && m.value != s.settings.ConfigPath
			}
			if counts {
				seen[kind] = true
				out = append(out, Problem{File: c.path, Line: m.line, Key: m.name(), Text: s.advice(c, source)})
			}
		}
	}
	for _, kind := range s.settings.Legacy {
		if !seen[kind] { // in a form in which we do not see it
			out = append(out, Problem{File: s.ConfigFile, Key: kind, Text: s.advice(configFile{loaded: true}, source)})
		}
	}
	return out
}

// advice is what to do about a registry section.
func (s *survey) advice(c configFile, source string) string {
	switch {
	case c.loaded && s.Distribution.Place == "" && s.Distribution.Otherwise != "":
		return fmt.Sprintf("comes from %s in the format that config_path replaces; %s", s.Distribution.Registries, s.Distribution.Otherwise)
	case c.loaded && s.Distribution.Registries != "":
		return fmt.Sprintf("comes from %s in the format that config_path replaces; "+
			"configure it in %s/HOST/hosts.toml, take it out there and %s", s.Distribution.Registries, source, s.Distribution.Then)
	case !c.loaded || isDropIn(c.path):
		return "is a custom registry field; please configure it in " + source
	}
	return fmt.Sprintf("is in the format that config_path replaces; configure it in %s/HOST/hosts.toml and delete it here", source)
}

func isDropIn(path string) bool {
	dir := filepath.Base(filepath.Dir(path))
	return dir == "conf.d" || dir == "conf2.d"
}

// customMessage has the platform's words for its drop-in directories, and adds
// file and line.
func (s *survey) customMessage(source string) string {
	first := s.Problems[0]
	if first.Key == "" || !isDropIn(first.File) {
		return first.String() + andMore(s.Problems) + s.deadlock()
	}
	return fmt.Sprintf("Failed to merge %s: contains custom registry fields; please configure them in %s (line %d: %s%s)%s",
		first.File, source, first.Line, first.Key, andMore(s.Problems), s.deadlock())
}

// deadlock is about two settings with which the CRI plugin does not load.
func (s *survey) deadlock() string {
	if s.settings.ConfigPath == "" || !slices.Contains(s.settings.Legacy, "registry.mirrors") {
		return ""
	}
	return "; config_path is set as well, and with both containerd's CRI plugin does not load"
}

// warnUnused warns about settings that have no effect.
func (s *survey) warnUnused() {
	for _, c := range s.tree.files {
		if !c.loaded {
			continue
		}
		for _, m := range c.outline.mentions {
			if m.key != "config_path" && !slices.Contains(s.settings.Legacy, "registry."+m.key) {
				s.Warnings = append(s.Warnings, fmt.Sprintf("%s:%d: %s has no effect: containerd %s does not take it from there",
					c.path, m.line, m.name(), s.settings.Version))
			}
		}
	}
}

// foreignLink is an absolute symbolic link on the way to a directory below another
// root. The kernel would follow it from our root, into this program's container.
// It is empty if both roots are the same.
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

// absoluteLink is the first absolute link on a path below root. It follows
// relative links.
func absoluteLink(root, path string) string {
	at, rest := "/", strings.Split(filepath.Clean(path), "/")
	for hops := 0; len(rest) > 0 && hops < 255; hops++ {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		if next == "/" {
			at = next // the root itself is one where it is /proc/1/root
			continue
		}
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

// writable asks the kernel whether the nearest directory that exists takes new
// entries. It changes nothing.
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
