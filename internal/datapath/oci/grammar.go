package oci

import "strings"

// The grammars of the distribution specification; they also keep "..", escapes and control
// characters out of paths and logs. They are loops and no regular expressions because all
// of a request's names are held against them, several times: TestGrammars has those.

// isRepository is for [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* between slashes.
func isRepository(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case isAlnum(c):
		case i == 0:
			return false
		case c == '/', c == '.':
			if !isAlnum(s[i-1]) {
				return false
			}
		case c == '_':
			if !isAlnum(s[i-1]) && (s[i-1] != '_' || !isAlnum(s[i-2])) { // the first is never at 0
				return false
			}
		case c == '-':
			if !isAlnum(s[i-1]) && s[i-1] != '-' {
				return false
			}
		default:
			return false
		}
	}
	return s != "" && isAlnum(s[len(s)-1])
}

func isTag(s string) bool {
	return s != "" && len(s) <= 128 && s[0] != '.' && s[0] != '-' && all(s, func(c byte) bool {
		return isAlnum(c) || c >= 'A' && c <= 'Z' || c == '_' || c == '.' || c == '-'
	})
}

// IsDigest reports whether a reference is a digest, and no tag.
func IsDigest(s string) bool {
	if hex, ok := strings.CutPrefix(s, "sha256:"); ok {
		return len(hex) == 64 && all(hex, isHex)
	}
	hex, ok := strings.CutPrefix(s, "sha512:")
	return ok && len(hex) == 128 && all(hex, isHex)
}

// isHost is a name or an address, an IPv6 one in brackets, and a port or none.
func isHost(s string) bool {
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && s[len(s)-1] != ']' {
		if port := s[i+1:]; port == "" || len(port) > 5 || !all(port, isDigit) {
			return false
		}
		host = s[:i]
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && all(inner, func(c byte) bool { return isHex(c) || c == ':' || c == '.' })
	}
	return isName(host)
}

func isName(s string) bool {
	return s != "" && isAlnum(s[0]) && isAlnum(s[len(s)-1]) && all(s, func(c byte) bool { return isAlnum(c) || c == '.' || c == '-' })
}

func all(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isHex(c byte) bool   { return isDigit(c) || c >= 'a' && c <= 'f' }
func isAlnum(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' }
