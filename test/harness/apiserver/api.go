package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// API is a running API server with the module's objects installed.
type API struct {
	config *rest.Config
	scheme *runtime.Scheme
	admin  client.Client
	etcd   string // its address
}

func newAPI(config *rest.Config) (*API, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme,
		deckhousev1alpha1.AddToScheme, registryv1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("build scheme: %w", err)
		}
	}
	admin, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("build client: %w", err)
	}
	return &API{config: config, scheme: scheme, admin: admin}, nil
}

// Config is a cluster administrator's, a copy, without client-side limits.
func (a *API) Config() *rest.Config { return rest.CopyConfig(a.config) }

// Scheme knows Kubernetes' kinds, CRDs and ours.
func (a *API) Scheme() *runtime.Scheme { return a.scheme }

// Client is a cluster administrator's.
func (a *API) Client() client.Client { return a.admin }

// ClientFor is a client with the rights of config.
func (a *API) ClientFor(tb testing.TB, config *rest.Config) client.Client {
	tb.Helper()
	c, err := client.New(config, client.Options{Scheme: a.scheme})
	if err != nil {
		tb.Fatalf("build client: %v", err)
	}
	return c
}

// Namespace makes a namespace for one test. It stays until the server stops:
// nothing here could empty it.
func (a *API) Namespace(tb testing.TB) string {
	tb.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := a.admin.Create(tb.Context(), ns); err != nil {
		tb.Fatalf("make namespace: %v", err)
	}
	return ns.Name
}

// Kubeconfig writes config to a file that lives as long as the test, and
// returns its path.
func Kubeconfig(tb testing.TB, config *rest.Config) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	if err := WriteKubeconfig(path, config); err != nil {
		tb.Fatal(err)
	}
	return path
}

// WriteKubeconfig writes config to path, readable by its owner only.
func WriteKubeconfig(path string, config *rest.Config) error {
	const name = "apitest"
	data, err := clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{
			name: {Server: config.Host, CertificateAuthorityData: config.CAData},
		},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{
			name: {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken},
		},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	})
	if err != nil {
		return fmt.Errorf("encode kubeconfig: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
