package pullsecret

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/upstream"
)

// dockerConfig is the content of .dockerconfigjson.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"` // only read
	RegistryToken string `json:"registrytoken,omitempty"` // only read
}

// CredentialsFor finds the credentials of a repository, "host/path", in a docker
// config: those of the longest key that names it or a parent. They are zero, for
// anonymous access, when there is no such key.
func CredentialsFor(data []byte, repository string) (upstream.Credentials, error) {
	if len(data) == 0 {
		return upstream.Credentials{}, nil
	}
	var config dockerConfig
	if json.Unmarshal(data, &config) != nil {
		return upstream.Credentials{}, errors.New(".dockerconfigjson is no docker configuration")
	}
	host, path, _ := strings.Cut(repository, "/")
	host = strings.ToLower(host)
	best, found, ok := longest(config.Auths, host, path)
	for _, other := range upstream.NamesOf(host) {
		if !ok {
			best, found, ok = longest(config.Auths, other, path)
		}
	}
	c := upstream.Credentials{Username: found.Username, Password: found.Password}
	if found.Auth != "" { // it counts before the others: kubelet and docker read it so
		var err error
		if c, err = upstream.ParseAuth(found.Auth); err != nil {
			return upstream.Credentials{}, fmt.Errorf("auth of %s %w", best, err)
		}
	}
	if c.Password == "" && found.IdentityToken+found.RegistryToken != "" {
		return upstream.Credentials{}, fmt.Errorf("%s has a token instead of a password, which kubelet cannot use either; expected auth, or username and password", best)
	}
	return c, nil
}

// longest is the longest key that names a repository or a parent of it.
func longest(auths map[string]dockerAuth, host, path string) (best string, found dockerAuth, ok bool) {
	repository := strings.TrimRight(host+"/"+path, "/")
	for _, key := range slices.Sorted(maps.Keys(auths)) { // sorted: of two spellings of one name the same one is always used
		name := dockerName(key)
		if (repository == name || strings.HasPrefix(repository, name+"/")) && len(name) > len(best) {
			best, found, ok = name, auths[key], true
		}
	}
	return best, found, ok
}

// dockerName is a key of a docker config as host[/path], with the host in lower
// case and without the scheme and API version that Docker's own clients write.
func dockerName(key string) string {
	name, had := strings.CutPrefix(key, "https://")
	if !had {
		name, had = strings.CutPrefix(key, "http://")
	}
	host, path, _ := strings.Cut(strings.TrimSuffix(name, "/"), "/")
	if had && (path == "v1" || path == "v2") {
		path = ""
	}
	return strings.TrimRight(strings.ToLower(host)+"/"+path, "/")
}

// newAuth makes an entry of a docker config. That for anonymous access is empty:
// an empty field "auth" breaks pulls.
func newAuth(c upstream.Credentials) dockerAuth {
	if c.IsZero() {
		return dockerAuth{}
	}
	return dockerAuth{Username: c.Username, Password: c.Password, Auth: c.Auth()}
}
