package usermirror

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/upstream"
)

const fileHosts = "hosts.toml"

// Scan reads the users' directories below dir, a path as containerd sees it; root
// is containerd's root as this program reaches it. Directories of ours and the
// fixed address are left out. Hosts that containerd cannot read are Unreadable.
func Scan(root, dir string) ([]Host, []Problem) {
	d := disk{root: root}
	l := &scanner{disk: d, dir: dir}
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
		l.problems = append(l.problems, Problem{File: h.File, Text: "it cannot be read: " + reason(err)})
		return
	}
	if hostsdir.Marked(data) {
		return
	}
	linked, _ := look(filepath.Join(real, name))
	h.link, h.owner = look(filepath.Join(real, name, fileHosts))
	h.link = h.link || linked
	r := &fileReader{disk: l.disk, file: h.File, dir: path.Join(l.dir, name), host: host}
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
	file     string // as containerd sees it
	dir      string // the directory that it is in
	host     string
	doc      *document
	problems []Problem
}

// read returns where containerd would go. unreadable says that it ignores the
// file.
func (r *fileReader) read(data []byte) (endpoints []Endpoint, unreadable bool) {
	doc, err := readDocument(data)
	var syntax *syntaxError
	if errors.As(err, &syntax) {
		r.problems = append(r.problems, Problem{File: r.file, Line: syntax.line, Text: "it cannot be read as TOML from here on; containerd ignores the whole file, without a word, and goes straight to the registry. A quote or a backslash in a password needs a backslash before it, or the value stands in 'single quotes'"})
		return nil, true
	}
	r.doc = doc
	hosts, ok := r.tables()
	if !ok {
		return nil, true
	}
	for _, name := range doc.hosts() {
		e := &endpointReader{fileReader: r, at: []string{"host", name}}
		e.out = Endpoint{URL: name, Line: doc.line("host", name)}
		values, _ := hosts[name].(map[string]any)
		if !e.read(values) {
			return nil, true
		}
		endpoints = append(endpoints, e.out)
	}
	e := &endpointReader{fileReader: r}
	e.out = Endpoint{Server: true, Line: doc.line("server")}
	if server, there := doc.values["server"]; there {
		if e.out.URL, ok = server.(string); !ok {
			e.fatal("server", `expected a string such as "https://registry.io"`)
			return nil, true
		}
	}
	if !e.read(doc.values) {
		return nil, true
	}
	return append(endpoints, e.out), false
}

// tables are the hosts of the file.
func (r *fileReader) tables() (hosts map[string]any, ok bool) {
	v, there := r.doc.values["host"]
	if !there {
		return nil, true
	}
	hosts, ok = v.(map[string]any)
	if !ok {
		r.problem([]string{"host"}, `expected tables of the form [host."https://…"]; as it is containerd ignores the whole file`)
		return nil, false
	}
	order := r.doc.hosts()
	for name, v := range hosts {
		if _, table := v.(map[string]any); !table {
			r.problem([]string{"host", name}, `expected a table of the form [host."https://…"]; as it is containerd 1.x may end on it, and containerd 2 ignores the whole file`)
			return nil, false
		}
		if !slices.Contains(order, name) {
			r.problem([]string{"host", name}, `containerd 2 does not see it; expected a header of its own, [host."https://…"]`)
		}
	}
	return hosts, true
}

func (r *fileReader) problem(key []string, text string) {
	key = slices.DeleteFunc(slices.Clone(key), func(s string) bool { return s == "" })
	p := Problem{File: r.file, Key: shown(key), Text: text}
	for i := len(key); i > 0 && p.Line == 0; i-- {
		p.Line = r.doc.line(key[:i]...)
	}
	r.problems = append(r.problems, p)
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// shown is a key as it is written, without a password in a URL.
func shown(key []string) string {
	parts := make([]string, len(key))
	for i, k := range key {
		parts[i] = k
		if bareKey.MatchString(k) {
			continue
		}
		if at := strings.LastIndex(k, "@"); at >= 0 {
			k = "…" + k[at:]
			if u, err := url.Parse(key[i]); err == nil && u.User != nil {
				u.User = nil
				k = u.String()
			}
		}
		parts[i] = fmt.Sprintf("%q", k)
	}
	return strings.Join(parts, ".")
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
