// Package owner says which of several stores is asked for what, so that all who ask agree
// without a word between them: by rendezvous hashing, in which a store that comes or goes
// moves its own share and nothing else. It is pure: addresses in, an order out.
//
// Who fetches a blob is Of its digest; which store a node asks first is Of the node's name.
// Start at Of.
package owner

import (
	"bytes"
	"crypto/sha256"
	"slices"
)

// Of is the order in which stores are asked for a key: the first one is its owner, the next
// one its second copy. The order of endpoints says nothing, and one that is named twice is
// one.
func Of(key string, endpoints []string) []string {
	order := slices.Clone(endpoints)
	slices.Sort(order) // of equal weights, which nobody will see
	order = slices.Compact(order)
	weights := make(map[string][sha256.Size]byte, len(order))
	for _, endpoint := range order {
		weights[endpoint] = weight(key, endpoint)
	}
	slices.SortStableFunc(order, func(a, b string) int {
		x, y := weights[a], weights[b]
		return bytes.Compare(y[:], x[:])
	})
	return order
}

// weight has the endpoint first, and something between that is in no address.
func weight(key, endpoint string) [sha256.Size]byte {
	return sha256.Sum256([]byte(endpoint + "\x00" + key))
}
