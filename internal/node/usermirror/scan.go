package usermirror

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/hostsfile"
	"github.com/d8-registry/registry/internal/upstream"
)

const fileHosts = "hosts.toml"

// Scan reads the users' directories below dir, a path as containerd sees it, as
// that node's containerd does. Directories of ours and the fixed address are left
// out. Hosts that containerd cannot read are Unreadable.
func Scan(n Node, dir string) ([]Host, []Problem) {
	d := disk{root: n.Root}
	l := &scanner{disk: d, dialect: hostsfile.For(n.Containerd), dir: dir}
	real, err := d.resolve(dir)
	if err != nil {
		return nil, []Problem{{File: dir, Text: reason(err)}}
	}
	entries, err := os.ReadDir(real)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []Problem{{File: dir, Text: "the directory cannot be read: " + reason(err)}}
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && (e.IsDir() || e.Type()&fs.ModeSymlink != 0) {
			l.directory(e.Name(), real)
		}
	}
	l.shadows()
	return l.hosts, l.problems
}

type scanner struct {
	disk     disk
	dialect  hostsfile.Dialect
	dir      string
	hosts    []Host
	problems []Problem
}

var withPort = regexp.MustCompile(`^(.+)_([0-9]{1,5})_$`)

// hostOf is the host that a directory is for: host_5001_ is host:5001 too.
func hostOf(directory string) string {
	if m := withPort.FindStringSubmatch(directory); m != nil {
		return strings.ToLower(m[1] + ":" + m[2])
	}
	return strings.ToLower(directory)
}

func (l *scanner) directory(name, real string) {
	host := hostOf(name)
	if host == layout.Fixed().Host {
		return
	}
	h := Host{Name: host, Directory: name, File: path.Join(l.dir, name, fileHosts)}
	data, err := l.disk.read(h.File)
	if errors.Is(err, fs.ErrNotExist) {
		return // without hosts.toml there is nothing for the agent to do
	}
	if err != nil {
		l.problems = append(l.problems, Problem{File: h.File, Text: "the agent cannot read it, so that auth and rewrite do nothing: " + reason(err)})
		return
	}
	if hostsdir.Marked(data) {
		return
	}
	linked, _ := look(filepath.Join(real, name))
	h.link, h.owner = look(filepath.Join(real, name, fileHosts))
	h.link = h.link || linked
	r := &fileReader{disk: l.disk, dialect: l.dialect, file: h.File, dir: path.Join(l.dir, name), host: host}
	h.Endpoints, h.Unreadable = r.read(blank(data))
	h.NeedsAgent = slices.ContainsFunc(h.Endpoints, func(e Endpoint) bool { return e.NeedsAgent })
	if host != upstream.DefaultHost && !hostPattern.MatchString(host) && h.NeedsAgent {
		r.problem(nil, "the directory's name is no registry host; expected host or host:port")
		h.Unreadable = true
	}
	l.hosts, l.problems = append(l.hosts, h), append(l.problems, r.problems...)
}

// look reports whether something is a symbolic link, and whose it is.
func look(name string) (link bool, owner int) {
	info, err := os.Lstat(name)
	if err != nil {
		return false, 0
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = int(stat.Uid)
	}
	return !info.IsDir() && !info.Mode().IsRegular(), owner
}

// shadows drops the directories that containerd does not read, because it looks
// first into another one for the same host.
func (l *scanner) shadows() {
	l.hosts = slices.DeleteFunc(l.hosts, func(h Host) bool {
		i := slices.IndexFunc(l.hosts, func(o Host) bool {
			return o.Name == h.Name && o.Directory != h.Directory && withPort.MatchString(o.Directory)
		})
		if i < 0 || withPort.MatchString(h.Directory) {
			return false
		}
		l.problems = append(l.problems, Problem{File: h.File, Text: "containerd does not read it: " + l.hosts[i].File + " is for the same host and comes first; remove one of them"})
		return true
	})
}

// fileReader reads one hosts.toml.
type fileReader struct {
	disk     disk
	dialect  hostsfile.Dialect
	file     string // as containerd sees it
	dir      string // the directory that it is in
	host     string
	parsed   *hostsfile.File
	problems []Problem
}

// read returns where containerd would go. unreadable says that it ignores the
// file.
func (r *fileReader) read(data []byte) (endpoints []Endpoint, unreadable bool) {
	parsed, err := r.dialect.Read(data)
	var ignored *hostsfile.Ignored
	if errors.As(err, &ignored) {
		r.problems = append(r.problems, r.noted(ignored.Note))
		return nil, true
	}
	r.parsed = parsed
	for _, n := range parsed.Notes {
		r.problems = append(r.problems, r.noted(n))
	}
	seen := map[string]bool{}
	for _, t := range parsed.Hosts {
		if !seen[t.URL] {
			endpoints = append(endpoints, r.endpoint(t, false))
		}
		seen[t.URL] = true
	}
	return append(endpoints, r.endpoint(parsed.Server, true)), false
}

func (r *fileReader) noted(n hostsfile.Note) Problem {
	return Problem{File: r.file, Line: n.Line, Key: hostsfile.Key(n.Path), Text: n.Text, Harmless: n.Harmless}
}

func (r *fileReader) endpoint(t hostsfile.Table, server bool) Endpoint {
	e := &endpointReader{fileReader: r, table: t}
	e.out = Endpoint{URL: t.URL, Line: t.Line, Server: server}
	e.read()
	return e.out
}

func (r *fileReader) problem(key []string, text string) {
	key = slices.DeleteFunc(slices.Clone(key), func(s string) bool { return s == "" })
	p := Problem{File: r.file, Key: hostsfile.Key(key), Text: text}
	if r.parsed != nil {
		p.Line = r.parsed.LineOf(key...)
	}
	r.problems = append(r.problems, p)
}

// blank is the file with our block replaced by empty lines, so that lines keep
// their numbers.
func blank(data []byte) []byte {
	spans := blocks(data)
	if len(spans) == 0 {
		return data
	}
	out := bytes.Clone(data)
	for _, s := range spans {
		for i := s.start; i < s.end; i++ {
			if out[i] != '\n' && out[i] != '\r' {
				out[i] = ' '
			}
		}
	}
	return out
}
