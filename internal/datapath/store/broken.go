//go:build brokenprotocol

package store

import (
	"errors"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/store/cache"
)

// Broken are promises of which one is not kept: those of the cache, and that a body which breaks goes on
// (fetch.BrokenResume). No program that ships has them: they are for negative controls.
func Broken(kind string) (out Promises, err error) {
	out.Cache, err = cache.Broken(kind)
	if kind == fetch.BrokenResume {
		var failed error
		out.Fetch, failed = fetch.Broken(kind)
		err = errors.Join(err, failed)
	}
	return out, err
}
