package doctor

import (
	"regexp"

	"github.com/aymanbagabas/go-udiff"

	"github.com/d8-registry/registry/internal/node/hostsdir"
)

// secret finds lines of containerd's files with secret values: credentials of
// registries, in both formats, and the node's token.
var secret = regexp.MustCompile(`(?mi)^([ +\-]?[ \t]*["']?(?:password|auth|identitytoken|identity_token|registrytoken|username|authorization|proxy-authorization|cookie|` +
	hostsdir.TokenHeader + `)["']?[ \t]*=[ \t]*)[^\r\n]*`)

// inline finds the same in tables on one line.
var inline = regexp.MustCompile(`(?i)(["']?(?:password|auth|identitytoken|identity_token|registrytoken|username|authorization|` +
	hostsdir.TokenHeader + `)["']?[ \t]*=[ \t]*)("(?:[^"\\]|\\.)*"|'[^']*'|\[[^\]]*\])`)

// mask removes secrets from a text with parts of containerd's files.
func mask(text string) string {
	return inline.ReplaceAllString(secret.ReplaceAllString(text, `${1}"***"`), `${1}"***"`)
}

// unified is the difference between two states of a file, without secrets.
func unified(file string, before, after []byte) string {
	return mask(udiff.Unified(file, file+" (changed)", string(before), string(after)))
}
