package precheck

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/upstream"
)

// errTimeout has the words that users of the module know.
var errTimeout = errors.New("Request timeout")

// refusesAll reports whether an error is about the registry and not about one
// image. Package judge says what an answer means; here it only counts whom it is
// about.
func refusesAll(err error) bool {
	return judge.Of(err).OfRegistry() || errors.Is(err, errTimeout)
}

func (c Checker) with(u upstream.Upstream) upstream.Upstream {
	if c.With == nil {
		return u
	}
	return c.With(u)
}

// Open makes a registry of an upstream that has its credentials.
func (c Checker) Open(u upstream.Upstream) (judge.Registry, error) {
	transport, err := c.Transport(u)
	if err != nil {
		return judge.Registry{}, fmt.Errorf("set up the connection: %w", err)
	}
	return judge.Registry{Upstream: u, Transport: transport}, nil
}

// query matches the part of a URL that may have signatures and tokens.
var query = regexp.MustCompile(`\?[^\s"']*`)

// safe is the error on one line, without credentials and signatures, so that a
// condition may show it. The registry has a say in it: its certificate's names, its
// addresses of redirects.
func safe(err error, u upstream.Upstream) string {
	var wrapped *url.Error
	text := err.Error()
	if errors.As(err, &wrapped) {
		text = strings.Replace(text, wrapped.Error(), wrapped.Err.Error(), 1)
	}
	text = query.ReplaceAllString(text, "")
	if p := u.Credentials.Password; p != "" {
		text = strings.ReplaceAll(text, p, "redacted")
		text = strings.ReplaceAll(text, url.QueryEscape(p), "redacted")
	}
	return foreign.Line(text, foreign.Sentence)
}
