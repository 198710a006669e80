package proxy

import (
	"bytes"
	"io"
	"net/http"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

const (
	// smallBlob is what is read and verified before our header goes out, in bytes, where
	// another upstream could serve: images have a config of a few KiB.
	smallBlob = 32 << 10
	// pageBegins is where a page says that it is one, in bytes.
	pageBegins = 512
	// largestPage is what a web page may have, in bytes.
	largestPage = 1 << 20
)

// collectBlob reads a blob that is small, or that begins as a web page does: its digest
// says what it is, and the next upstream can still serve. All others are streamed.
func collectBlob(resp *http.Response, x *exchange) (judge.Outcome, string) {
	x.proved = false
	if _, plain := judge.PartOf(resp); !plain {
		return judge.Relayed, ""
	}
	limit, page := readFirst(resp, x)
	if limit == 0 {
		return judge.Relayed, ""
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	whole := err == nil && int64(len(data)) <= limit
	rest := io.Reader(resp.Body)
	switch {
	case whole && judge.DigestLike(x.pull.Reference, data) == x.pull.Reference:
		x.proved = true
	case page && (whole || judge.WebPage(resp.Header)):
		return judge.Nonsense, "answered with a web page"
	case whole:
		return judge.WrongDigest, "answered with other bytes than its digest says"
	case err != nil:
		rest = broken{err} // it is continued, see resume
	}
	resp.Body = limitedBody{io.MultiReader(bytes.NewReader(data), rest), resp.Body}
	return judge.Relayed, ""
}

// readFirst is how much of a blob is read before our header goes out, in bytes, and
// whether it begins as a page.
func readFirst(resp *http.Response, x *exchange) (limit int64, page bool) {
	page = judge.WebPage(resp.Header)
	if judge.Text(resp.Header) {
		begin := make([]byte, pageBegins)
		n, err := resp.Body.Read(begin) // what comes first: more may take long
		page = page || judge.Page(begin[:n])
		rest := io.Reader(resp.Body)
		if err != nil {
			rest = broken{err}
		}
		resp.Body = limitedBody{io.MultiReader(bytes.NewReader(begin[:n]), rest), resp.Body}
	}
	switch {
	case page:
		return largestPage, true
	case resp.ContentLength >= 0 && resp.ContentLength <= smallBlob && x.others():
		return smallBlob, false
	}
	return 0, false
}
