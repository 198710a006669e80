// Package fronttest has what a process serves by, as the controller writes it, for tests.
// Start at Content.
package fronttest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// Passwords of the users ro and node.
const (
	ClientPassword = "client-password"
	NodePassword   = "node-password"
)

// Content is a layout of a generation, users and a certificate for 127.0.0.1, by key.
func Content(t testing.TB, generation int64, upstreams ...upstream.Upstream) map[string][]byte {
	t.Helper()
	encoded, err := layout.Encode(layout.Layout{
		Schema: layout.Schema, Generation: generation, Mode: "Direct",
		ActiveMode: "Direct", Active: upstreams[0], Target: upstreams[0],
		Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}},
	})
	if err != nil {
		t.Fatal(err)
	}
	certificate, key := Certificate(t)
	return map[string][]byte{
		v1alpha1.KeyProxyLayout: encoded,
		v1alpha1.KeyProxyUsers: fmt.Appendf(nil, "- {name: ro, sha256: %s, role: client}\n- {name: node, sha256: %s, role: node}\n",
			Sum(ClientPassword), Sum(NodePassword)),
		"tls.crt": certificate, "tls.key": key,
	}
}

// Certificate is one of a CA of its own, which is in it too.
func Certificate(t testing.TB) (certificate, key []byte) {
	t.Helper()
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _, err := pki.EnsureLeaf(time.Now(), ca, pki.KeyPair{}, []string{"registry.d8-system.svc", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return []byte(leaf.Cert), []byte(leaf.Key)
}

// Sum is what a list of users has of a password.
func Sum(password string) string {
	s := sha256.Sum256([]byte(password))
	return hex.EncodeToString(s[:])
}

// With is data with one key replaced; an empty value removes it.
func With(data map[string][]byte, key, value string) map[string][]byte {
	next := maps.Clone(data)
	next[key] = []byte(value)
	if value == "" {
		delete(next, key)
	}
	return next
}

// WriteFiles writes each as a file, by rename.
func WriteFiles(t testing.TB, folder string, data map[string][]byte) {
	t.Helper()
	for key, content := range data {
		name := filepath.Join(folder, key)
		err := os.WriteFile(name+".new", content, 0o600)
		if err == nil {
			err = os.Rename(name+".new", name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
