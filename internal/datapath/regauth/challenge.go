package regauth

import (
	"net/http"
	"strings"
)

// challenge is one WWW-Authenticate challenge (RFC 9110 §11.6.1). Scheme and
// the keys of params are in lower case.
type challenge struct {
	scheme string
	params map[string]string
}

// maxChallenge bounds what is kept of a challenge, in bytes.
const maxChallenge = 4 << 10

// size is that of what is kept.
func (c challenge) size() int {
	return len(c.params["realm"]) + len(c.params["service"]) + len(c.params["scope"])
}

// parseChallenges reads every challenge of a 401. A registry may send several,
// in several header lines or in one.
func parseChallenges(header http.Header) []challenge {
	var all []challenge
	for _, line := range header.Values("WWW-Authenticate") {
		all = append(all, parseChallengeLine(line)...)
	}
	return all
}

// parseChallengeLine never fails: what it does not understand it leaves out.
func parseChallengeLine(line string) []challenge {
	var all []challenge
	for {
		line = strings.TrimLeft(line, " \t,")
		word, rest := token(line)
		if word == "" {
			return all
		}
		after := strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(after, "=") {
			all = append(all, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
			line = rest
			continue
		}
		value, rest := paramValue(strings.TrimLeft(after[1:], " \t"))
		if len(all) > 0 {
			all[len(all)-1].params[strings.ToLower(word)] = value
		}
		line = rest
	}
}

// token cuts an RFC 9110 token off the front of s.
func token(s string) (word, rest string) {
	rest = s
	for rest != "" && isTokenChar(rest[0]) {
		rest = rest[1:]
	}
	return s[:len(s)-len(rest)], rest
}

// paramValue cuts a token or a quoted string off the front of s.
func paramValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		return token(s)
	}
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return out.String(), s[i+1:]
		case '\\':
			if i++; i < len(s) {
				out.WriteByte(s[i])
			}
		default:
			out.WriteByte(s[i])
		}
	}
	return out.String(), ""
}

func isTokenChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~/:", c) >= 0
}
