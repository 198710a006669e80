package cache

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// answer is one of the upstreams in memory, for all who wait for it.
type answer struct {
	status int
	header http.Header
	body   []byte
	length int64    // of the whole, where there is no body
	url    *url.URL // that was asked; nil where nothing goes by it
	served *routes.Target
	record fetch.Record
	err    error

	manifest *manifest // of a 200 that was one, and may be kept
}

// Error is for an answer that is no blob.
func (a *answer) Error() string { return fmt.Sprintf("the upstream answered %d", a.status) }

// collect reads an answer, which is small: packages below have judged it.
func collect(resp *http.Response, err error, x *fetch.Exchange) *answer {
	a := &answer{record: *x.Record, served: x.Served, err: err}
	if err != nil {
		return a
	}
	defer func() { _ = resp.Body.Close() }()
	a.status, a.header, a.length, a.url = resp.StatusCode, resp.Header, resp.ContentLength, resp.Request.URL
	if a.body, a.err = io.ReadAll(io.LimitReader(resp.Body, judge.Limit+1)); a.err == nil && len(a.body) > judge.Limit {
		a.err = fmt.Errorf("the upstream's answer has more than %d bytes", judge.Limit)
	}
	return a
}

// response is the answer for one client.
func (a *answer) response(req *http.Request, x *fetch.Exchange) (*http.Response, error) {
	x.Record.Upstream, x.Record.Attempts = a.record.Upstream, x.Record.Attempts+a.record.Attempts
	if a.err != nil {
		return nil, a.err
	}
	resp := newResponse(req, x, a.served, a.status, a.header.Clone())
	resp.ContentLength = a.length
	if req.Method != http.MethodHead {
		resp.ContentLength = int64(len(a.body))
		resp.Body = io.NopCloser(bytes.NewReader(a.body))
	}
	if a.url != nil { // the links of a list are relative to it
		resp.Request = req.Clone(req.Context())
		resp.Request.URL = a.url
	}
	return resp, nil
}

// newResponse is an answer without a body. served is whose names are in it.
func newResponse(req *http.Request, x *fetch.Exchange, served *routes.Target, status int, header http.Header) *http.Response {
	if x.Served = served; served == nil {
		x.Served = x.Route.Targets[0]
	}
	return &http.Response{
		StatusCode: status, Status: strconv.Itoa(status) + " " + http.StatusText(status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: http.NoBody, Request: req,
	}
}
