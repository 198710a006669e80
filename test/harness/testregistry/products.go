package testregistry

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
)

// Product is a product or service as its public documentation, its source or its
// maintainers describe it: docs/registries.md has a row for each, with where it was
// read. None of them was asked.
type Product struct {
	Name string // as in docs/registries.md
	// Repository is one as its users name them, below its host.
	Repository string
	Options    Options
}

// Products are all that we know.
func Products() []Product {
	return append(services(), servers()...)
}

// services are run by their vendors.
func services() []Product {
	return []Product{
		{"Docker Hub", "library/deckhouse", Options{Bearer: true, RedirectBlobs: "localhost", Manner: Manner{
			TokensElsewhere: true, Service: "registry.docker.io", RedirectHeads: true,
			Limit: Limit{Pulls: 100, Window: ";w=21600", Message: "You have reached your pull rate limit."},
		}}},
		{"GHCR", "deckhouse/ee", Options{Username: "u", Password: "ghp_p", Bearer: true, RedirectBlobs: "localhost", Manner: Manner{
			Service: "ghcr.io", Refusal: http.StatusForbidden, Referrers: http.StatusSeeOther,
			Limit: Limit{Pulls: 1000, All: true, NoFigures: true, Message: "retry-after: 43.988µs, allowed: 44000/minute"},
		}}},
		{"Quay", "deckhouse/ee", Options{Username: "deckhouse+robot", Password: "p", Bearer: true, RedirectBlobs: "localhost", Manner: Manner{
			TokenPath: "/v2/auth", Service: "quay.io", RedirectStatus: http.StatusFound,
			Limit: Limit{Pulls: 1000, All: true, NoFigures: true, Says: Page},
		}}},
		{"ECR", "deckhouse/ee", Options{Username: "AWS", Password: strings.Repeat("p", 2000), RedirectBlobs: "localhost", Manner: Manner{
			Basic: `Basic realm="https://1.dkr.ecr.eu-west-2.amazonaws.com/",service="ecr.amazonaws.com"`, Refusal: http.StatusForbidden, Says: Text,
			Limit: Limit{Pulls: 1000, All: true, NoFigures: true, Message: "Rate exceeded"},
		}}},
		{"GAR/GCR", "project/repository/deckhouse", Options{Username: "_json_key", Password: "{\n\"type\": \"service_account\"\n}", Bearer: true, Manner: Manner{
			TokenPath: "/v2/token", Service: "europe-docker.pkg.dev", RedirectWithin: "/artifacts-downloads/namespaces/project", RedirectStatus: http.StatusFound,
			Limit: Limit{Pulls: 1000, All: true, NoFigures: true, Message: "Quota exceeded"},
		}}},
		{"ACR", "deckhouse/ee", Options{Username: "00000000-0000-0000-0000-000000000000", Password: "p", Bearer: true, RedirectBlobs: "localhost", Manner: Manner{
			TokenPath: "/oauth2/token", Service: "example.azurecr.io", TokenKey: "access_token", NoLife: true,
			Limit: Limit{Pulls: 1000, All: true, NoFigures: true, Message: "Too many requests"},
		}}},
		{"GitLab", "group/project/deckhouse", Options{Username: "deploy", Password: "gldt-p", Bearer: true, RedirectBlobs: "localhost", Manner: Manner{
			TokensElsewhere: true, TokenPath: "/jwt/auth", Service: "container_registry", NoLife: true, Refusal: http.StatusForbidden,
			Referrers: http.StatusNotFound,
			Limit:     Limit{Pulls: 1000, Tokens: true, NoFigures: true, RetryAfter: "30", Message: "Retry later", Says: Text},
		}}},
	}
}

// servers are run by whoever wants to.
func servers() []Product {
	return []Product{
		{"Harbor", "hub-proxy/deckhouse/ee", Options{Username: "robot$project+deckhouse", Password: "p", Bearer: true, Manner: Manner{
			TokenPath: "/service/token", Service: "harbor-registry", Cookie: "sid=secret; Path=/; HttpOnly",
			Limit: Limit{Pulls: 1000, NoFigures: true, Message: "the registry behind the proxy project has a limit"},
		}}},
		{"Nexus", "docker-hosted/deckhouse", Options{Username: "u", Password: "p", Bearer: true, Manner: Manner{
			TokenPath: "/v2/token", Service: "https://nexus.example.com/v2/token", Cookie: "session=secret",
			Basic: `BASIC realm="Sonatype Nexus Repository Manager"`,
		}}},
		{"Artifactory", "docker-local/deckhouse", Options{Username: "u", Password: "p", Bearer: true, RedirectBlobs: "localhost", Manner: Manner{
			TokenPath: "/artifactory/api/docker/null/v2/token", Service: "artifactory.example.com", RedirectStatus: http.StatusFound,
			Scope: withoutFirst, Basic: `Basic realm="Artifactory Realm"`,
		}}},
		{"Gitea", "owner/deckhouse", Options{Username: "u", Password: "p", Bearer: true, Manner: Manner{
			TokenPath: "/v2/token", Service: "container_registry", Scope: func(string) string { return "*" }, NoLife: true,
			Basic: `Basic realm="Gitea Container Registry"`, NoRange: true, Referrers: http.StatusNotFound,
		}}},
		{"distribution", "deckhouse/ee", Options{Username: "u", Password: "p", Manner: Manner{
			Basic: `Basic realm="registry"`, Referrers: http.StatusNotFound,
		}}},
		{"zot", "deckhouse/ee", Options{Username: "u", Password: "p", Manner: Manner{
			Basic: `Basic realm="Authorization Required"`,
			Limit: Limit{Pulls: 1000, All: true, Message: "Too Many Requests", Says: Text},
		}}},
	}
}

// withoutFirst is the scope of a repository for a server that stands behind a path and
// does not see it.
func withoutFirst(repository string) string {
	_, inside, _ := strings.Cut(repository, "/")
	return "repository:" + inside + ":pull"
}

// String says what the double does, as the column of docs/registries.md has it.
func (p Product) String() string {
	o := p.Options
	parts := []string{o.authentication()}
	where, status := "", cmp.Or(o.RedirectStatus, http.StatusTemporaryRedirect)
	switch {
	case o.RedirectBlobs != "":
		where = "another server"
	case o.RedirectWithin != "":
		where = "`" + o.RedirectWithin + "`"
	}
	if where != "" {
		what := "blobs"
		if o.RedirectHeads {
			what = "blobs, HEAD too,"
		}
		parts = append(parts, fmt.Sprintf("%s %d to %s", what, status, where))
	}
	if o.Limit.Pulls > 0 {
		parts = append(parts, o.Limit.String())
	}
	if o.NoRange {
		parts = append(parts, "no Range")
	}
	if o.Cookie != "" {
		parts = append(parts, "sets a cookie")
	}
	if o.Referrers != 0 {
		parts = append(parts, fmt.Sprintf("referrers %d", o.Referrers))
	}
	return strings.Join(parts, "; ")
}

func (o Options) authentication() string {
	if !o.Bearer {
		return fmt.Sprintf("Basic, wrong: %d", cmp.Or(o.Refusal, http.StatusUnauthorized))
	}
	from := ""
	if o.TokensElsewhere {
		from = " of another server"
	}
	s := fmt.Sprintf("Bearer from `%s`%s, service `%s`", cmp.Or(o.TokenPath, "/token"), from, o.Service)
	if o.Basic != "" {
		s += ", Basic beside it"
	}
	if o.Scope != nil {
		s += fmt.Sprintf(", scope of `a/b` `%s`", o.Scope("a/b"))
	}
	if o.TokenKey != "" {
		s += ", as `" + o.TokenKey + "`"
	}
	if o.NoLife {
		s += ", no `expires_in`"
	}
	if o.Username == "" {
		return s + ", for everybody"
	}
	return s + fmt.Sprintf(", wrong: %d", cmp.Or(o.Refusal, http.StatusUnauthorized))
}

// String says what is counted, and how more is refused.
func (l Limit) String() string {
	counted := "GETs of manifests"
	switch {
	case l.All:
		counted = "all requests"
	case l.Tokens:
		counted = "requests for tokens"
	case l.Heads:
		counted = "requests for manifests"
	}
	s := fmt.Sprintf("429 in %s for %s", [...]string{"JSON", "text", "a web page"}[l.Says], counted)
	if l.RetryAfter != "" {
		s += ", `Retry-After: " + l.RetryAfter + "`"
	}
	if !l.NoFigures {
		s += ", figures `" + fmt.Sprint(l.Pulls, l.Window) + "`"
	}
	return s
}
