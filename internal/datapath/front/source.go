package front

import (
	"bytes"
	"context"
	"maps"
)

// Keys of what a process serves by, beside those of layout and users in the API: as in a
// Secret of type kubernetes.io/tls.
const (
	KeyCertificate = "tls.crt"
	KeyKey         = "tls.key"
)

// Source is where a process has what it serves by. It calls changed with all of it whenever
// it may have changed, from one goroutine, until the context ends.
type Source func(ctx context.Context, changed func(Content))

// Content is what a Source has at one time.
type Content struct {
	Data map[string][]byte
	// Unread is why the data of a key could not be read; the last good ones stay.
	Unread map[string]error
	// Err is why nothing could be read. All stays as it is.
	Err error
}

func (c Content) same(d Content) bool {
	return maps.EqualFunc(c.Data, d.Data, bytes.Equal) && maps.EqualFunc(c.Unread, d.Unread, sameError) && sameError(c.Err, d.Err)
}

func sameError(a, b error) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Error() == b.Error()
}
