package answer

import (
	"crypto/sha256"
	"net/http"
	"sync"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

const (
	// maxJudged bounds what is remembered: a platform has a few hundred manifests.
	maxJudged = 512
	// maxTypes is what the media types of one may have, in bytes: a registry may say
	// megabytes.
	maxTypes = 512
)

// judged remembers which manifests were good. All nodes ask for the same ones, and reading
// one costs more than all else that a small request takes here; its hash does not.
type judged struct {
	mu   sync.Mutex
	good map[verdict]judge.Manifest // without children: nobody here needs them
}

// verdict is all that judge.Read goes by.
type verdict struct {
	bytes       [sha256.Size]byte
	contentType string
	digest      string // that was wanted
}

// read is judge.Read.
func (j *judged) read(header http.Header, data []byte, digest string) (judge.Manifest, error) {
	v := verdict{bytes: sha256.Sum256(data), contentType: header.Get("Content-Type"), digest: digest}
	j.mu.Lock()
	m, ok := j.good[v]
	j.mu.Unlock()
	if ok {
		return m, nil
	}
	m, err := judge.Read(header, data, digest)
	if err != nil {
		return m, err
	}
	m.Children = nil
	if len(v.contentType)+len(m.MediaType) > maxTypes {
		return m, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.good == nil || len(j.good) >= maxJudged {
		j.good = map[verdict]judge.Manifest{}
	}
	j.good[v] = m
	return m, nil
}
