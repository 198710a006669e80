package deploy

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

func caRows(t *testing.T) []row {
	t.Helper()
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	quote := func(s string) string { return "ca: " + toJSON(t, s) }
	const long = "registry.direct: 'ca' is longer than 64 KiB; give only the certificates that this registry needs."
	bundle := "# our CA\n" + ca.Cert + "\n# and again\n" + ca.Cert
	return []row{
		{"CA", withRepo(quote(ca.Cert)), ""},
		{"CA with text around it", withRepo(quote(bundle)), ""},
		{"CA with Windows line ends", withRepo(quote(strings.ReplaceAll(ca.Cert, "\n", "\r\n"))), ""},
		{"empty CA", withRepo(quote("")), ""},
		{"blank CA with HTTP", withRepo("scheme: HTTP, " + quote(" \n")), ""},
		{"CA with HTTP", withRepo("scheme: HTTP, " + quote(ca.Cert)), "registry.direct: CA is not allowed when scheme is 'HTTP'"},
		{"CA that is no PEM", withRepo(quote("certificate")), wantPEM},
		{"CA as a file name", withRepo(quote("/etc/ssl/ca.crt")), wantPEM},
		{"CA without its end", withRepo(quote(strings.Split(ca.Cert, "-----END")[0])), wantPEM},
		{"CA without its beginning", withRepo(quote(ca.Cert[10:])), wantPEM},
		{"CA and a broken one", withRepo(quote(ca.Cert + strings.ReplaceAll(ca.Cert, "END", "ND"))), wantPEM},
		{"CA and a private key", withRepo(quote(ca.Cert + ca.Key)), wantPEM},
		{"private key as CA", withRepo(quote(ca.Key)), wantPEM},
		{"CA in base64", withRepo(quote("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==")), wantPEM},
		{"a megabyte of CA", withRepo(quote(strings.Repeat(ca.Cert, 1<<20/len(ca.Cert)))), long},
		{"64 KiB and a byte of CA", withRepo(quote(ca.Cert + strings.Repeat("\n", 64<<10+1-len(ca.Cert)))), long},
		{"64 KiB of CA", withRepo(quote(ca.Cert + strings.Repeat("\n", 64<<10-len(ca.Cert)))), ""},
		{"many certificates", withRepo(quote(strings.Repeat(ca.Cert, 64<<10/len(ca.Cert)))), ""},
	}
}

// TestSettings tries every row by every way to write, with and without an
// object there.
func TestSettings(t *testing.T) {
	api := server.Start(t)
	table := rows(t)
	t.Run("new", func(t *testing.T) { tryRows(t, api, table, create(), serverSideApply()) })
	t.Run("changed", func(t *testing.T) {
		store(t, api, moduleConfig(t, "deckhouse", "{version: 1, enabled: true, settings: {bundle: Default}}"))
		tryRows(t, api, table, update(), serverSideApply())
	})
}

func tryRows(t *testing.T, api *apiserver.API, table []row, writes ...write) {
	t.Helper()
	for _, r := range table {
		for _, w := range writes {
			if w.name == "apply" && (strings.Contains(r.registry, `\x7f`) || strings.Contains(r.registry, `\x85`)) {
				// The API server reads an apply patch as YAML, in which DEL is an
				// error and NEL a line break: admission never meets them.
				continue
			}
			t.Run(r.name+"/"+w.name, func(t *testing.T) {
				o := moduleConfig(t, "deckhouse", "{version: 1, enabled: true, settings: {bundle: Default}}")
				settings := map[string]any{"bundle": "Default", "registry": parseYAML(t, r.registry)}
				if err := unstructured.SetNestedMap(o.Object, settings, "spec", "settings"); err != nil {
					t.Fatal(err)
				}
				check(t, w.do(t, api.Client(), o), r.want)
			})
		}
	}
}
