package hostsfile

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/node/mainfile"
)

// File is what containerd makes of a hosts.toml, with what the agent knows besides.
type File struct {
	// Hosts are asked in this order. containerd 2 asks one twice if its tables are not
	// together.
	Hosts []Table
	// Server is asked last; its URL is empty if the file names none, and then the
	// host of the image is.
	Server Table
	// Notes are what in the file has no effect, or not the one that it seems to have.
	Notes []Note

	dialect Dialect
	values  map[string]any
	places  *places
}

// Table is one [host."…"], or the top of the file for the server. Names of files
// are as written.
type Table struct {
	Path []string // of the table in the file
	Line int      // where it begins, from 1; 0 when unknown
	URL  string

	Capabilities []string // none for all
	CA           []string
	Client       [][]string // certificate and key, or a file with both
	SkipVerify   *bool
	OverridePath bool
	DialTimeout  string
	Header       map[string][]string

	// Auth and Rewrite are ours: containerd does not know them.
	Auth, Rewrite any
}

// Note is something about one key of a file.
type Note struct {
	Path []string // of the key; none for the file
	Line int      // from 1; 0 when unknown
	Text string   // what it is, what it does to pulls, and what would be right
	// Harmless says that it stops no pull.
	Harmless bool
}

// Ignored is a file that containerd cannot read, and so ignores as a whole.
type Ignored struct{ Note }

// Error says why. It holds no value of the file.
func (e *Ignored) Error() string { return e.Text }

// LineOf is the line of a key, or of the innermost table around it; 0 when unknown.
func (f *File) LineOf(path ...string) int { return f.places.line(path...) }

// Names reports whether a host is written in the file, whether or not containerd
// sees it.
func (f *File) Names(host string) bool {
	hosts, _ := f.values["host"].(map[string]any)
	_, there := hosts[host]
	return there
}

// IsWith reports whether the file says what another does, with one more host before
// all others.
func (f *File) IsWith(host string, other *File) bool {
	if !slices.Equal(f.order(), append([]string{host}, other.order()...)) {
		return false
	}
	hosts, ok := f.values["host"].(map[string]any)
	if !ok {
		return false
	}
	after := maps.Clone(f.values)
	after["host"] = maps.Collect(func(yield func(string, any) bool) {
		for name, table := range hosts {
			if name != host && !yield(name, table) {
				return
			}
		}
	})
	before := map[string]any{"host": map[string]any{}}
	maps.Copy(before, other.values)
	return mainfile.Same(before, after)
}

func (f *File) order() []string {
	out := make([]string, 0, len(f.Hosts))
	for _, h := range f.Hosts {
		out = append(out, h.URL)
	}
	return out
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// longestKey is more than the address of a mirror takes, in bytes.
const longestKey = 512

// Key is the path of a key as it is written, without a password in a URL.
func Key(path []string) string {
	parts := make([]string, len(path))
	for i, k := range path {
		parts[i] = k
		if bareKey.MatchString(k) {
			continue
		}
		if at := strings.LastIndex(k, "@"); at >= 0 {
			k = "…" + k[at:]
			if u, err := url.Parse(path[i]); err == nil && u.User != nil {
				u.User = nil
				k = u.String()
			}
		}
		parts[i] = fmt.Sprintf("%q", k)
	}
	return foreign.Line(strings.Join(parts, "."), longestKey)
}
