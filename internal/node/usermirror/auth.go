package usermirror

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/d8-registry/registry/internal/upstream"
)

// auth reads credentials, which stock containerd ignores. User name and password
// count first, then an identity token, then both in one base64.
func (r *endpointReader) auth(v any) {
	if v == nil {
		return
	}
	r.out.NeedsAgent = true
	table, ok := v.(map[string]any)
	if !ok {
		r.broken("auth", "expected a table with username and password, or with auth")
		return
	}
	said := map[string]string{}
	for _, key := range []string{"username", "password", "identitytoken", "auth"} {
		value, there := table[key]
		if !there {
			continue
		}
		text, ok := value.(string)
		if !ok {
			r.broken("auth."+key, "expected a string")
			return
		}
		said[key] = text
	}
	var c upstream.Credentials
	switch {
	case said["username"] != "":
		c = upstream.Credentials{Username: said["username"], Password: said["password"]}
	case said["identitytoken"] != "":
		r.broken("auth.identitytoken", "identity tokens are not supported; expected username and password, or auth")
		return
	case said["auth"] != "":
		var err error
		if c, err = upstream.ParseAuth(said["auth"]); err != nil || c.Username == "" {
			r.broken("auth.auth", "expected the base64 of user:password")
			return
		}
		c.Password = strings.Trim(c.Password, "\x00") // as containerd does
	case said["password"] != "":
		r.broken("auth.username", "a password is given, but no username")
		return
	}
	if problem := c.Problem(); problem != "" {
		r.broken("auth", problem)
		return
	}
	r.out.Mirror.Credentials = c
}

// rewrite reads rules for repositories, which stock containerd ignores too.
func (r *endpointReader) rewrite(v any) {
	if v == nil {
		return
	}
	r.out.NeedsAgent = true
	list, ok := v.([]any)
	if !ok {
		r.broken("rewrite", "expected a list of tables, each [[…rewrite]] with regex and replace")
		return
	}
	for i, item := range list {
		key := "rewrite." + strconv.Itoa(i)
		table, ok := item.(map[string]any)
		if !ok {
			r.broken(key, "expected a table with regex and replace")
			return
		}
		var rule upstream.Rewrite
		if rule.Regex, ok = table["regex"].(string); !ok || rule.Regex == "" {
			r.broken(key+".regex", "expected a regular expression, as a string")
			return
		}
		if _, err := regexp.Compile(rule.Regex); err != nil {
			r.broken(key+".regex", "expected a regular expression of Go (RE2), matched against the repository's name such as system/deckhouse")
			return
		}
		if rule.Replace, ok = table["replace"].(string); !ok && table["replace"] != nil {
			r.broken(key+".replace", "expected a string")
			return
		}
		r.out.Mirror.Rewrites = append(r.out.Mirror.Rewrites, rule)
	}
}
