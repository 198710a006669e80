package blob

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// meta says what is there of a partial. It is never there before the bytes that it speaks
// of, and is worth nothing in another run of the kernel: the bytes were not synced.
type meta struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	Boot   string `json:"boot"`
	Spans  spans  `json:"spans"`
}

// parseMeta is strict with what it finds: a span too many would be bytes that never came.
func parseMeta(data []byte, digest, boot string) (meta, error) {
	var m meta
	if err := json.Unmarshal(data, &m); err != nil {
		return meta{}, err
	}
	switch {
	case m.Digest != digest:
		return meta{}, errors.New("it is noted for another digest")
	case m.Boot == "" || m.Boot != boot:
		return meta{}, errors.New("the machine was started again")
	case m.Size < 0 || !m.Spans.valid(m.Size):
		return meta{}, errors.New("its spans are in no order")
	}
	return m, nil
}

// readMeta is that of a partial whose bytes are there too.
func (s *Store) readMeta(digest string) (meta, error) {
	data, err := disk.ReadFile(s.fsys, metaName(digest), mostOfMeta)
	if err != nil {
		return meta{}, err
	}
	m, err := parseMeta(data, digest, s.boot)
	if err != nil {
		return meta{}, err
	}
	f, err := s.fsys.Open(partialName(digest))
	if err != nil {
		return meta{}, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return meta{}, err
	}
	if n := len(m.Spans); size > m.Size || n > 0 && size < m.Spans[n-1].To {
		return meta{}, fmt.Errorf("its file has %d bytes", size)
	}
	return m, nil
}
