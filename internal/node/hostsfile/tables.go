package hostsfile

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	wantCapabilities = `expected a list of "pull", "resolve" and "push"`
	wantReferrers    = wantCapabilities + ` ("referrers" is known from 2.2 on)`
	wantBool         = "expected true or false, without quotes"
	wantCA           = "expected a file name or a list of file names"
	wantClient       = "expected a file name, a list of file names, or a list of pairs of certificate and key"
	wantHeader       = "expected a table of header names"
	wantValues       = "expected a string or a list of strings"
	wantTimeout      = `expected a duration such as "5s"`
	wantTables       = `expected tables of the form [host."https://…"]`
	wantURL          = "this is no URL; expected https://host[:port][/path]"
	wantServer       = `expected a string such as "https://registry.io"`
)

// mismatch says which value the library refused.
func (r *reading) mismatch(err error) error {
	if err == nil {
		return nil
	}
	if v, there := r.file.values["server"]; there {
		if _, ok := v.(string); !ok {
			return r.ignored([]string{"server"}, wantServer)
		}
	}
	if found := r.wrongType(nil, r.file.values); found != nil {
		return found
	}
	hosts, ok := r.file.values["host"].(map[string]any)
	if !ok && r.file.values["host"] != nil {
		return r.ignored([]string{"host"}, wantTables)
	}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		path := []string{"host", name}
		table, ok := hosts[name].(map[string]any)
		if !ok {
			return r.ignored(path, "expected a table of the form [host.\"https://…\"]")
		}
		if found := r.wrongType(path, table); found != nil {
			return found
		}
	}
	return &Ignored{Note{Line: lineOf(err), Text: "a value is not of the kind that is expected" + strings.ReplaceAll(ignores, "%s", r.name)}}
}

// wrongType is the first key of a table with a value of a kind that no library
// takes.
func (r *reading) wrongType(path []string, table map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(table)) {
		v, want := table[key], ""
		switch _, isBool := v.(bool); strings.ToLower(key) {
		case "capabilities":
			if _, ok := stringsOf(v); !ok {
				want = wantCapabilities
			}
		case "skip_verify", "override_path":
			if !isBool {
				want = wantBool
			}
		case "header":
			if _, ok := v.(map[string]any); !ok {
				want = wantHeader
			}
		case "dial_timeout":
			if _, ok := v.(string); !ok && r.dialTimeout {
				want = `expected a string such as "5s"`
			}
		}
		if want != "" {
			return r.ignored(append(slices.Clone(path), key), want)
		}
	}
	return nil
}

// tables makes of what was decoded what containerd asks.
func (r *reading) tables() error {
	ours, _ := r.file.values["host"].(map[string]any)
	for _, name := range r.order {
		path := []string{"host", name}
		t := Table{Path: path, URL: name, Line: r.file.places.line(path...), DialTimeout: r.timeouts.Host[name].DialTimeout}
		own, _ := ours[name].(map[string]any)
		if err := r.table(&t, r.decoded.Host[name], own); err != nil {
			return err
		}
		r.file.Hosts = append(r.file.Hosts, t)
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		if !slices.Contains(r.order, name) {
			r.note([]string{"host", name}, r.name+` does not see it; expected a header of its own, [host."https://…"]`)
		}
	}
	t := Table{URL: r.decoded.Server, Line: r.file.places.line("server"), DialTimeout: r.timeouts.DialTimeout}
	err := r.table(&t, r.decoded.Fields, r.file.values)
	r.file.Server = t
	return err
}

// table fills a table, as containerd does.
func (r *reading) table(t *Table, f fields, values map[string]any) error {
	t.SkipVerify, t.OverridePath, t.Capabilities = f.SkipVerify, f.OverridePath, f.Capabilities
	t.Auth, t.Rewrite = values["auth"], values["rewrite"]
	bad := func(want string, key ...string) error {
		return r.ignored(append(slices.Clone(t.Path), key...), want)
	}
	if !readableURL(t.URL) {
		if t.Path == nil {
			return bad(wantURL, "server")
		}
		return bad(wantURL)
	}
	if slices.ContainsFunc(f.Capabilities, r.unknownCapability) {
		return bad(wantReferrers, "capabilities")
	}
	if t.DialTimeout != "" {
		if _, err := time.ParseDuration(t.DialTimeout); err != nil {
			return bad(wantTimeout, "dial_timeout")
		}
	}
	var ok bool
	if t.CA, ok = oneOrMore(f.CA); !ok && f.CA != nil {
		return bad(wantCA, "ca")
	}
	if t.Client, ok = pairsOf(f.Client); !ok && f.Client != nil {
		return bad(wantClient, "client")
	}
	if f.Header == nil {
		return nil
	}
	t.Header = map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(f.Header)) {
		if t.Header[name], ok = oneOrMore(f.Header[name]); !ok {
			return bad(wantValues, "header", name)
		}
	}
	return nil
}

func (r *reading) unknownCapability(name string) bool {
	switch strings.ToLower(name) {
	case "pull", "resolve", "push":
		return false
	case "referrers":
		return !r.referrers
	}
	return true
}

// readableURL reports whether containerd can read an address; what it then does
// with it is another matter.
func readableURL(raw string) bool {
	if raw != "" && !strings.HasPrefix(raw, "http") {
		raw = "https://" + raw
	}
	_, err := url.Parse(raw)
	return err == nil
}

// pairsOf are certificates with their keys.
func pairsOf(v any) (pairs [][]string, ok bool) {
	if name, single := v.(string); single {
		return [][]string{{name}}, true
	}
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	for _, item := range list {
		pair, ok := oneOrMore(item)
		if _, single := item.(string); !ok || !single && len(pair) != 2 {
			return nil, false
		}
		pairs = append(pairs, pair)
	}
	return pairs, true
}

// oneOrMore is a string or a list of strings.
func oneOrMore(v any) ([]string, bool) {
	if s, ok := v.(string); ok {
		return []string{s}, true
	}
	return stringsOf(v)
}

// stringsOf is a list of strings.
func stringsOf(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, 0, len(list))
	for _, item := range list {
		s, ok := item.(string)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}
