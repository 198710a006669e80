package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVerdicts: a ratio is that of one round, and what must be reached is said to be or not.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	r := results{}
	for _, v := range []struct{ ours, nginx, bare, cache float64 }{{90, 100, 400, 10}, {60, 50, 400, 20}, {110, 100, 400, 30}} {
		r.add(key{rate64, ours, secured}, v.ours)
		r.add(key{rate64, nginx, secured}, v.nginx)
		r.add(key{rate64, bare, secured}, v.bare)
		r.add(key{rate64, cache, secured}, v.cache)
	}
	for system, v := range map[string]float64{bare: 0.25, nginx: 0.75, ours: 1.25} {
		r.add(key{mid1, system, secured}, v)
	}
	r.add(key{above, ours, secured}, 64.1)
	text := r.text(full(), time.Minute)
	for _, want := range []string{
		"| manifests, 64 clients: ours / nginx | 1.1 (0.9–1.2) | ≥ 0.6 | reached |",
		"| manifests, 64 clients: ours / distribution | 3.67 (3–9) | ≥ 5 | **not reached** |",
		"| manifest, 1 client, added latency: ours / nginx | 2 (2–2) | ≤ 1.5 | **not reached** |",
		"| 64 parallel layers, MiB above idle | 64.1 (64.1–64.1) | ≤ 64.0 | **not reached** |",
		"| manifests, 64 clients, requests/s | 400 (400–400) | 100 (50.0–100) | 20.0 (10.0–30.0) | 90.0 (60.0–110) | 1.1 (0.9–1.2) |",
		"| added to the upstream alone | 0 (0–0) | 0.5 (0.5–0.5) | – | 1 (1–1) | 2 (2–2) |",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "layer, 1 client") {
		t.Errorf("it speaks of what was not measured: %s", text)
	}
}

// TestOnlyTheTablesAreReplaced: what is written by hand stays, and so do the tables of another target.
func TestOnlyTheTablesAreReplaced(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "performance.md")
	page := func(one, other string) string {
		return "before\n<!-- make one: from here -->\n" + one + "<!-- make one: to here -->\nbetween\n<!-- make other: from here -->\n" + other + "<!-- make other: to here -->\nafter\n"
	}
	for _, old := range []string{"old\n", "older\n"} {
		if err := os.WriteFile(file, []byte(page(old, "\nother\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := replace(file, "make one", "new\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != page("\nnew\n\n", "\nother\n") {
			t.Errorf("%q %v", got, err)
		}
	}
	if replace(file, "make third", "new") == nil {
		t.Error("a document without a place was written")
	}
}

// TestStoreVerdicts: what must be reached of a store is said to be or not, by its own values and beside
// others of the same round; what was not measured is left out.
func TestStoreVerdicts(t *testing.T) {
	t.Parallel()
	r := results{
		{"8 clients: " + egress, ourStore, secured}:  {1, 1.5, 2},
		{"8 clients: " + answers, ourStore, secured}: {1, 4, 5},
		{first, bare, secured}:                       {2},
		{joined, ourStore, secured}:                  {6.9, 7.1, 50},
		{warm16, ourStore, secured}:                  {200},
		{warm16, cacheLock, secured}:                 {100},
	}
	text := r.storeText(shortStores(), time.Minute)
	for _, want := range []string{
		"| registry-store, 8 clients: bytes from the registry, times the layer | 1.5 (1–2) | ≤ 1 | **not reached** |",
		"| registry-store, 8 clients: answers of the registry | 4 (1–5) | ≤ 4 | reached |",
		"beyond the upstream's | 5.1 (4.9–48.0) | ≤ 5 | **not reached** |",
		"| " + warm16 + ": ours / nginx, with lock | 2 (2–2) | ≥ 1 | reached |",
		"| " + warm16 + " | – | 100 (100–100) | – | – | 200 (200–200) | – |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(text, killed) {
		t.Errorf("it speaks of what was not measured: %s", text)
	}
}

// TestAnswers: what the client takes for an answer.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 12\r\n\r\n":     12,
		"HTTP/1.1 206 Partial\r\nContent-Length: 1073741824\r\n\r\n":     1 << 30,
		"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n":          -1,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": -1,
		"HTTP/1.1 200 OK\r\nContent-Length: 1":                           -1,
	} {
		c := &client{in: bufio.NewReader(strings.NewReader(text))}
		if got, err := c.header(); got != want && want >= 0 || (err == nil) != (want >= 0) {
			t.Errorf("%q: %d %v", text, got, err)
		}
	}
}
