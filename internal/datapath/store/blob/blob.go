// Package blob owns the bytes of a store on disk, by digest: whole ones, and those that
// are still coming.
//
//	oci-layout, index.json                what makes the folder a valid OCI layout
//	blobs/<algorithm>/<hex>               whole ones, read-only
//	partial/<algorithm>-<hex>             the bytes of one that is coming, at their places
//	partial/<algorithm>-<hex>.json        which of them are there, for the next process
//	trash/                                renamed first, then removed
//	store.json, lock                      format; one process at a time
//
// A name under blobs/ is there only when all its bytes are on disk and have that digest:
// after kill -9 and after a power cut too. Nothing here knows HTTP, clocks, or how much
// may be kept. Start at Open, then Partial.
package blob

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/d8-registry/registry/internal/datapath/oci"
)

var (
	// ErrDigest is for bytes that are not what their digest says.
	ErrDigest = errors.New("the bytes have another digest")
	// ErrDamaged is for a whole blob that the disk does not give back: Scrub says whether it
	// is lost.
	ErrDamaged = errors.New("the disk does not give the bytes back")
	// ErrMissing is for bytes of a partial that are not there yet.
	ErrMissing = errors.New("the bytes are not there yet")
)

// Info is a whole blob, or one that is to be whole.
type Info struct {
	Digest string
	Size   int64
}

// Folders and files of a store.
const (
	blobsFolder   = "blobs"
	partialFolder = "partial"
	trashFolder   = "trash"
	metaSuffix    = ".json"
)

// algorithms are those of digests, and of folders under blobs/.
func algorithms() []string { return []string{"sha256", "sha512"} }

// check is for what becomes the name of a file.
func check(digest string) error {
	if !oci.IsDigest(digest) {
		return fmt.Errorf("%.100q is no digest", digest)
	}
	return nil
}

// folderOf is where a whole blob is, and blobName which file it is.
func folderOf(digest string) string {
	algorithm, _, _ := strings.Cut(digest, ":")
	return blobsFolder + "/" + algorithm
}

func blobName(digest string) string {
	return blobsFolder + "/" + strings.Replace(digest, ":", "/", 1)
}

func partialName(digest string) string {
	return partialFolder + "/" + strings.Replace(digest, ":", "-", 1)
}

func metaName(digest string) string { return partialName(digest) + metaSuffix }

// NewHash is for a digest that was checked.
func NewHash(digest string) hash.Hash {
	if strings.HasPrefix(digest, "sha512:") {
		return sha512.New()
	}
	return sha256.New()
}

// HasDigest reports whether a hash is that of a digest.
func HasDigest(sum hash.Hash, digest string) bool {
	_, want, _ := strings.Cut(digest, ":")
	return fmt.Sprintf("%x", sum.Sum(nil)) == want
}
