package controller

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Keys of Secret deckhouse-registry.
const (
	keyAddress = "address"
	keyPath    = "path"
	keyScheme  = "scheme"
	keyCA      = "ca"
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

// installation is the registry that Secret deckhouse-registry names, or why
// none can be told.
func installation(secret *corev1.Secret) (upstream.Upstream, string) {
	if secret == nil {
		return upstream.Upstream{}, "Secret d8-system/deckhouse-registry does not exist."
	}
	address := string(secret.Data[keyAddress])
	if strings.EqualFold(address, layout.Fixed().Host) {
		return upstream.Upstream{}, "Secret d8-system/deckhouse-registry names the fixed address, which is no registry of its own."
	}
	settings := upstream.Settings{
		ImagesRepo: address + "/" + strings.Trim(string(secret.Data[keyPath]), "/"),
		Scheme:     string(secret.Data[keyScheme]),
		CA:         string(secret.Data[keyCA]),
	}
	if address == "" {
		return upstream.Upstream{}, "Secret d8-system/deckhouse-registry: Registry address is required."
	}
	credentials, err := credentialsFor(secret.Data[corev1.DockerConfigJsonKey], settings.ImagesRepo)
	if err != nil {
		return upstream.Upstream{}, "Secret d8-system/deckhouse-registry: " + err.Error() + "."
	}
	settings.Username, settings.Password = credentials.Username, credentials.Password
	u, err := upstream.Parse(settings)
	if err != nil {
		return upstream.Upstream{}, fmt.Sprintf("Secret d8-system/deckhouse-registry: %v.", err)
	}
	return u, ""
}

// credentialsFor finds what a docker config says about a repository: the
// longest key that names it or a parent. None is anonymous access.
func credentialsFor(data []byte, repository string) (upstream.Credentials, error) {
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
	for _, key := range slices.Sorted(maps.Keys(config.Auths)) { // two spellings of one name: always the same wins
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

// dockerName is a key of a docker config as host[/path]: with the host in lower
// case, and without the scheme and API version that Docker's own clients write.
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

// newAuth is credentials as an entry of a docker config. Anonymous access has
// an entry without anything: an empty "auth" breaks pulls.
func newAuth(c upstream.Credentials) dockerAuth {
	if c.IsZero() {
		return dockerAuth{}
	}
	pair := base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
	return dockerAuth{Username: c.Username, Password: c.Password, Auth: pair}
}
