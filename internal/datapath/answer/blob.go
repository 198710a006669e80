package answer

import (
	"bytes"
	"io"
	"net/http"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

const (
	// SmallBlob is what is read and verified before our header goes out, in bytes, where
	// another upstream could serve: images have a config of a few KiB.
	SmallBlob = 32 << 10
	// pageBegins is where a page says that it is one, in bytes.
	pageBegins = 512
	// largestPage is what a web page may have, in bytes.
	largestPage = 1 << 20
)

// collectBlob reads a blob that is small, or that begins as a web page does: its digest
// says what it is, and the next upstream can still serve. All others are streamed.
func collectBlob(resp *http.Response, asked Asked) (o judge.Outcome, reason string, proved bool) {
	if _, plain := judge.PartOf(resp); !plain {
		return judge.Relayed, "", proved
	}
	limit, page := readFirst(resp, asked)
	if limit == 0 {
		return judge.Relayed, "", proved
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	whole := err == nil && int64(len(data)) <= limit
	rest := io.Reader(resp.Body)
	switch {
	case whole && judge.DigestLike(asked.Pull.Reference, data) == asked.Pull.Reference:
		proved = true
	case page && (whole || judge.WebPage(resp.Header)):
		return judge.Nonsense, "answered with a web page", false
	case whole:
		return judge.WrongDigest, "answered with other bytes than its digest says", false
	case err != nil:
		rest = broken{err} // it is continued, see package fetch
	}
	resp.Body = joined{io.MultiReader(bytes.NewReader(data), rest), resp.Body}
	return judge.Relayed, "", proved
}

// readFirst is how much of a blob is read before our header goes out, in bytes, and
// whether it begins as a page.
func readFirst(resp *http.Response, asked Asked) (limit int64, page bool) {
	page = judge.WebPage(resp.Header)
	if judge.Text(resp.Header) {
		begin := make([]byte, pageBegins)
		n, err := resp.Body.Read(begin) // what comes first: more may take long
		page = page || judge.Page(begin[:n])
		rest := io.Reader(resp.Body)
		if err != nil {
			rest = broken{err}
		}
		resp.Body = joined{io.MultiReader(bytes.NewReader(begin[:n]), rest), resp.Body}
	}
	switch {
	case page:
		return largestPage, true
	case resp.ContentLength >= 0 && resp.ContentLength <= SmallBlob && asked.Others:
		return SmallBlob, false
	}
	return 0, false
}
