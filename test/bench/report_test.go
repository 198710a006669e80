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

// TestOnlyTheTablesAreReplaced: what is written by hand stays.
func TestOnlyTheTablesAreReplaced(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "performance.md")
	for _, old := range []string{"old", "older\n"} {
		if err := os.WriteFile(file, []byte("before\n"+begins+old+"\n"+ends+"after\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := replace(file, "new\n"); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if want := "before\n" + begins + "\nnew\n\n" + ends + "after\n"; err != nil || string(got) != want {
			t.Errorf("%q %v", got, err)
		}
	}
	if err := os.WriteFile(file, []byte("no place"), 0o600); err != nil {
		t.Fatal(err)
	}
	if replace(file, "new") == nil {
		t.Error("a document without a place was written")
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
