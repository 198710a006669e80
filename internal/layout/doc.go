// Package layout owns what a node and a proxy must know to route pulls: names
// × upstreams.
//
// A name is what an image reference starts with; an upstream is a registry
// that can serve it. The package merges, compares, validates, versions and
// encodes layouts. It touches no files and no clients. Start at Layout.
package layout
