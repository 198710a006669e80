package pullsecret

import (
	"encoding/base64"
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
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Auth     string `json:"auth,omitempty"`
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
	best, found := "", dockerAuth{}
	host, path, _ := strings.Cut(repository, "/")
	repository = strings.TrimRight(strings.ToLower(host)+"/"+path, "/")
	for _, key := range slices.Sorted(maps.Keys(config.Auths)) { // sorted: of two spellings of one name the same one is always used
		name := dockerName(key)
		if (repository == name || strings.HasPrefix(repository, name+"/")) && len(name) > len(best) {
			best, found = name, config.Auths[key]
		}
	}
	if found.Username != "" || found.Auth == "" {
		return upstream.Credentials{Username: found.Username, Password: found.Password}, nil
	}
	pair, err := base64.StdEncoding.DecodeString(found.Auth)
	if err != nil {
		return upstream.Credentials{}, fmt.Errorf("auth of %s is no base64", best)
	}
	username, password, ok := strings.Cut(string(pair), ":")
	if !ok {
		return upstream.Credentials{}, fmt.Errorf("auth of %s is no user name and password", best)
	}
	return upstream.Credentials{Username: username, Password: password}, nil
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
	pair := base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
	return dockerAuth{Username: c.Username, Password: c.Password, Auth: pair}
}
