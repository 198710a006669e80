package hostsfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// keys are those of a table: containerd's, and ours.
func keys() []string {
	return []string{"capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout", "auth", "rewrite"}
}

// meant is what somebody probably means by a key that there is not: what other
// programs call it, and older files of containerd.
func meant() map[string]string {
	out := map[string]string{
		"username": "auth.username", "user": "auth.username", "password": "auth.password", "passwd": "auth.password", "identitytoken": "auth.auth", "token": "auth.auth",
		"credentials": "auth", "tls": "skip_verify or ca", "mirrors": "host", "mirror": "host", "hosts": "host", "endpoint": "host", "endpoints": "host",
		"timeout": "dial_timeout", "plain_http": `a host "http://…"`, "http_headers": "header", "certs": "client", "cert": "client", "client_cert": "client", "key": "client",
	}
	for _, name := range []string{"insecure_skip_verify", "insecure", "insecureskipverify", "tls_skip_verify", "skip_tls_verify", "skipverify"} {
		out[name] = "skip_verify"
	}
	for _, name := range []string{"ca_file", "cafile", "cacert", "ca_cert", "cas", "ca_certs", "certificate_authority"} {
		out[name] = "ca"
	}
	return out
}

// unknown notes every key that neither this containerd nor the agent knows.
func (r *reading) unknown() {
	values := r.file.values
	r.unknownIn(nil, values, append(keys(), "server", "host"))
	hosts, _ := values["host"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		if table, ok := hosts[name].(map[string]any); ok {
			r.unknownIn([]string{"host", name}, table, keys())
		}
	}
	notes := r.file.Notes
	slices.SortStableFunc(notes, func(a, b Note) int { return a.Line - b.Line })
	if more := len(notes) - mostNotes; more > 0 {
		r.file.Notes = append(notes[:mostNotes:mostNotes], Note{Text: fmt.Sprintf("%d more keys have no effect", more), Harmless: true})
	}
}

// mostNotes is how much is said about one file.
const mostNotes = 10

func (r *reading) unknownIn(path []string, table map[string]any, known []string) {
	for _, key := range slices.Sorted(maps.Keys(table)) {
		at := append(slices.Clone(path), key)
		switch {
		case key == "dial_timeout" && !r.dialTimeout:
			r.harmless(at, r.name+" waits 30s whatever it says; it is known from 2.1 on")
		case r.knows(key, known):
		default:
			r.harmless(at, "neither "+r.name+" nor the agent knows this key, so that it has no effect"+suggestion(key, known, path == nil))
		}
	}
	inner := map[string][]string{"auth": {"username", "password", "auth", "identitytoken"}, "rewrite": {"regex", "replace"}}
	for name, known := range inner {
		at := append(slices.Clone(path), name)
		switch v := table[name].(type) {
		case map[string]any:
			r.strange(at, v, known)
		case []any:
			for _, item := range v {
				rule, _ := item.(map[string]any)
				r.strange(at, rule, known)
			}
		}
	}
}

// strange notes keys that the agent does not know in tables that are ours.
func (r *reading) strange(path []string, table map[string]any, known []string) {
	for _, key := range slices.Sorted(maps.Keys(table)) {
		if !slices.Contains(known, key) {
			r.harmless(append(slices.Clone(path), key), "the agent does not know this key, so that it has no effect"+suggestion(key, known, false))
		}
	}
}

// knows reports whether a key is one of those. 2.x's library takes it in letters of
// any case, 1.x's also all in capitals; ours are as written.
func (r *reading) knows(key string, known []string) bool {
	if slices.Contains(known, key) {
		return true
	}
	lower := strings.ToLower(key)
	return slices.Contains(known, lower) && lower != "auth" && lower != "rewrite" && (!r.old || key == strings.ToUpper(key))
}

// suggestion is the key that was probably meant.
func suggestion(key string, known []string, top bool) string {
	plain := strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(strings.ToLower(key))
	better := meant()[plain]
	if _, last, inner := strings.Cut(better, "."); inner && slices.Contains(known, last) {
		better = last
	}
	if better == "" && top && strings.Contains(key, "://") {
		return `; expected [host."` + "https://…" + `"]`
	}
	for _, k := range known {
		if better == "" && len(plain) > 2 && len(plain) < 64 && distance(plain, k) <= 1+len(k)/6 {
			better = k
		}
	}
	if better == "" {
		return "; known are " + strings.Join(known, ", ")
	}
	return "; expected " + better
}

// distance is how many letters differ.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
