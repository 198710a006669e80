package apiserver

import (
	"context"
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// EnvServer chooses the minor version of the API server, "1.30" for instance:
// the part kube-apiserver-1.30. Empty: the part kube-apiserver.
const EnvServer = "APISERVER"

// serverPart is the name of the API server's part.
func serverPart() string {
	if minor := os.Getenv(EnvServer); minor != "" {
		return "kube-apiserver-" + minor
	}
	return "kube-apiserver"
}

// askVersion asks the server what it is. It fails where that is not what
// EnvServer asks for: a run on another version would show nothing.
func askVersion(ctx context.Context, config *rest.Config) (string, error) {
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return "", fmt.Errorf("ask the API server's version: %w", err)
	}
	version, err := d.ServerVersionWithContext(ctx)
	if err != nil {
		return "", fmt.Errorf("ask the API server's version: %w", err)
	}
	if want := os.Getenv(EnvServer); want != "" {
		if !strings.HasPrefix(version.GitVersion, "v"+want+".") {
			return "", fmt.Errorf("the API server says that it is %s, and %s asks for %s", version.GitVersion, EnvServer, want)
		}
		fmt.Fprintln(os.Stderr, "apitest: the API server is", version.GitVersion)
	}
	return version.GitVersion, nil
}
