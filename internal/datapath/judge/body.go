package judge

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
)

// ReadBody reads the body of a manifest, and not more than one has. With an error it
// returns what came before.
func ReadBody(resp *http.Response) ([]byte, error) { return ReadWhole(resp, Limit, "manifest") }

// ReadWhole reads a body of at most so many bytes. We ask for it as it is, and some
// servers compress it all the same: such a one is decoded, and its header says so. The
// error is an Error; with it comes what was read before a body broke.
func ReadWhole(resp *http.Response, limit int64, what string) ([]byte, error) {
	data, err := readAll(resp.Body, resp.ContentLength, limit+1)
	switch {
	case err != nil && encoded(resp):
		return nil, Errorf(NoConnection, "read the %s: %w", what, err)
	case err != nil:
		return data, Errorf(NoConnection, "read the %s: %w", what, err)
	case int64(len(data)) > limit:
		return nil, tooLarge(limit, what)
	case !encoded(resp):
		return data, nil
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "gzip" && encoding != "x-gzip" {
		return nil, Errorf(Nonsense, "answered in Content-Encoding %.20q, which was not asked for", encoding)
	}
	plain, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, Errorf(Nonsense, "answered with a %s in gzip that cannot be read: %w", what, err)
	}
	data, err = readAll(plain, 0, limit+1)
	switch {
	case err != nil:
		return nil, Errorf(Nonsense, "answered with a %s in gzip that cannot be read: %w", what, err)
	case int64(len(data)) > limit:
		return nil, tooLarge(limit, what)
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Set("Content-Length", strconv.Itoa(len(data)))
	resp.ContentLength = int64(len(data))
	return data, nil
}

func tooLarge(limit int64, what string) error {
	return Errorf(Nonsense, "answered with more than %d bytes, which is no %s", limit, what)
}

// mostExpected is how much of what a header promises is made room for at once, in bytes.
const mostExpected = 64 << 10

// readAll is io.ReadAll of at most so many bytes, with room for those that are expected.
func readAll(from io.Reader, expected, most int64) ([]byte, error) {
	into := bytes.NewBuffer(make([]byte, 0, bytes.MinRead+max(min(expected, mostExpected), 0)))
	_, err := into.ReadFrom(io.LimitReader(from, most))
	return into.Bytes(), err
}

// encoded reports whether a body is not what it stands for, but a form of it.
func encoded(resp *http.Response) bool {
	encoding := resp.Header.Get("Content-Encoding")
	return encoding != "" && encoding != "identity"
}
