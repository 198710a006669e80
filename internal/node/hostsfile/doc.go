// Package hostsfile owns what one version of containerd makes of a hosts.toml: For
// is that version, Read what it would ask, in its order, or why it ignores the
// file. Versions differ in the library for TOML, in the keys that they know, and in
// what they insist on, so every file is judged by the containerd of its node.
//
// The libraries are those of containerd itself, 1.x's and 2.x's, so that their odd
// corners are not ours to imitate. The package reads bytes: it opens no file that
// is named in them. Start at Read.
package hostsfile
