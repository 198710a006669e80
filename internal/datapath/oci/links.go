package oci

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// link is one of a Link header (RFC 8288): where to, and what for.
var link = regexp.MustCompile(`^[\s,]*<([^<>]*)>((?:\s*;\s*[^\s;,="]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)\s*(?:,|$)`)

// linkFor finds the rel among the parameters of a link.
var linkFor = regexp.MustCompile(`(?i);\s*rel\s*=\s*"?([a-z0-9 .-]*)`)

// MaxTags is a list of some ten thousand tags, in bytes: it is in memory as a whole.
// Registries with more answer in pages.
const MaxTags = 2 << 20

// MostLinks is more than a list has. A header may have thousands, each of which costs us
// and the client.
const MostLinks = 16

// Links are those of a list as the client can follow them, the one to the next
// page first: some clients follow the first one whatever it is for. reason says why the
// list has a next page that nobody could ask us for: without it, it would end too early.
func Links(resp *http.Response, pull Pull) (links []string, reason string) {
	if pull.Kind != KindTags && pull.Kind != KindReferrers {
		return nil, ""
	}
	rest := strings.Join(resp.Header.Values("Link"), ",")
	for n := 0; strings.Trim(rest, " \t,") != ""; n++ {
		if n == MostLinks {
			return links, "answered with more links than a list has"
		}
		m := link.FindStringSubmatch(rest)
		if m == nil {
			return links, "answered with a link that cannot be read"
		}
		rest = rest[len(m[0]):]
		rel := "next" // which is all that the specification knows
		if said := linkFor.FindStringSubmatch(m[2]); said != nil {
			rel = strings.ToLower(said[1])
		}
		mapped, ok := mapLink(resp, m[1], pull)
		isNext := slices.Contains(strings.Fields(rel), "next")
		switch {
		case !ok && isNext:
			reason = "answered with a list that goes on where no list is"
		case ok && isNext:
			links = slices.Insert(links, 0, "<"+mapped+`>; rel="next"`)
		case ok:
			links = append(links, "<"+mapped+`>; rel="`+rel+`"`)
		}
	}
	return links, reason
}

// mapLink turns the address of another page of a list, relative or not, into one with
// the client's name, and with its ns, which the client follows the link without. Only
// the query is the upstream's: behind a proxy it may not know its own path.
func mapLink(resp *http.Response, address string, pull Pull) (string, bool) {
	to, err := resp.Request.URL.Parse(strings.TrimSpace(address))
	if err != nil || to.RawQuery == resp.Request.URL.RawQuery || !strings.HasSuffix(to.Path, strings.TrimPrefix(pull.Path(""), "/")) {
		return "", false
	}
	query := to.Query()
	query.Del("ns")
	if pull.Namespaced {
		query.Set("ns", pull.Host)
	}
	mapped := url.URL{Path: "/v2" + pull.Path(pull.Repository), RawQuery: query.Encode()}
	return mapped.String(), len(mapped.RawQuery) <= MaxQuery
}
