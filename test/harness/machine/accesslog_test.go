package machine

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestAccessLogReadsBlobs(t *testing.T) {
	t.Parallel()
	const digest = "sha256:217feb1e7490015dd0a2b231b9cea45804df3d2a9b37287ac861bb45b8c0de55"
	path := filepath.Join(t.TempDir(), "log")
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	request := func(method, what, status string) string {
		return `10.111.0.5 - - [21/Nov/2026:18:55:22 +0000] "` + method + ` /v2/mirror/dh/` + what + ` HTTP/1.1" ` + status + ` 188 "" "containerd/2.4.2"` + "\n"
	}
	add(`time="2026-11-21T18:55:00Z" level=warning msg="something else"` + "\n")
	add(request("GET", "blobs/"+digest, "200"))
	add(request("GET", "blobs/"+digest+"?ns=registry.example.com", "206"))
	add(request("GET", "blobs/"+digest, "401"))
	add(request("HEAD", "blobs/"+digest, "200"))
	add(request("GET", "manifests/"+digest, "200"))
	half := request("GET", "blobs/"+digest, "200")
	add(half[:40])

	log := newAccessLog(path)
	want := []Download{{"10.111.0.5", "containerd/2.4.2", digest, 188}, {"10.111.0.5", "containerd/2.4.2", digest, 188}}
	check(t, log, want)
	add(half[40:])
	check(t, log, append(want, want[0]))
}

func check(t *testing.T, log *AccessLog, want []Download) {
	t.Helper()
	got, err := log.Downloads()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("downloads are %v, want %v", got, want)
	}
}
