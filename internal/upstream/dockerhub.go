package upstream

import (
	"slices"
	"strings"
)

// DockerHub is Docker Hub in image references. Nothing answers there.
const DockerHub = "docker.io"

const (
	dockerHubAPI    = "registry-1.docker.io" // where its registry is
	dockerHubLegacy = "index.docker.io"      // the same as DockerHub, to all that read references
	dockerHubKey    = "https://index.docker.io/v1/"
	dockerHubPublic = "library/" // where its images without a namespace are
)

// IsDockerHub reports whether a host, in lower case, is a name of Docker Hub.
func IsDockerHub(host string) bool {
	return slices.Contains(dockerHubNames(), host)
}

func dockerHubNames() []string {
	return []string{DockerHub, dockerHubLegacy, dockerHubAPI, "registry.hub.docker.com"}
}

// HostInReferences is what a host, in lower case, is in image references once
// kubelet and containerd have read them. Other names of Docker Hub stay: to
// containerd they are other registries.
func HostInReferences(host string) string {
	if host == dockerHubLegacy {
		return DockerHub
	}
	return host
}

// HostOfAPI is the host that is asked for what a host, in lower case, has.
func HostOfAPI(host string) string {
	if IsDockerHub(host) {
		return dockerHubAPI
	}
	return host
}

// RepositoryOf is the repository that a client asks for when an image reference
// has this host and this path.
func RepositoryOf(host, path string) string {
	if HostInReferences(host) == DockerHub && path != "" && !strings.Contains(path, "/") {
		return dockerHubPublic + path
	}
	return path
}

// NamesOf are all hosts, in lower case, that are the same registry as this one.
func NamesOf(host string) []string {
	if IsDockerHub(host) {
		return dockerHubNames()
	}
	return []string{host}
}

// KeysOf are the keys of a docker config under which clients look for the
// credentials of a host: kubelet under the host, docker login and the libraries
// that read what it writes under a URL, if it is Docker Hub.
func KeysOf(host string) []string {
	if IsDockerHub(host) {
		return []string{host, dockerHubKey}
	}
	return []string{host}
}
