package machine

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/d8-registry/registry/test/harness/cert"
)

const (
	apiPort   = "6443"
	clientURL = "http://127.0.0.1:2379" // etcd, on the loopback of the API server's namespace
	masters   = "system:masters"        // the group of cluster admins
)

// APIOptions say what stands around an API server.
type APIOptions struct {
	// Cluster is for one with controllers, kubelets and kube-proxy: admission as
	// in a real cluster, and access to the kubelets for logs and exec. Without it
	// nobody makes ServiceAccounts, and RouteService plays kube-proxy.
	Cluster bool
}

// APIServer is a kube-apiserver with its etcd, in a namespace of their own. No
// controller-manager and no scheduler runs.
type APIServer struct {
	Space *Space
	// Admin is a cluster admin's access from the host.
	Admin *rest.Config
	// Kubeconfig is the file of the same.
	Kubeconfig string
	// authority signs everybody's certificates: those of kubelets too.
	authority *cert.Authority
	dir       string
}

// Binaries are the real parts.
type Binaries struct{ Dir, Assets string }

// FindBinaries looks in dir, and for the API server and etcd in
// KUBEBUILDER_ASSETS first.
func FindBinaries(dir string) (Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, fmt.Errorf("folder of the real parts: %w", err)
	}
	b := Binaries{Dir: dir, Assets: os.Getenv("KUBEBUILDER_ASSETS")}
	var missing []error
	for _, name := range []string{"etcd", "kube-apiserver", "kubectl", "registry", "containerd"} {
		if info, err := os.Stat(b.Path(name)); err != nil || info.IsDir() {
			missing = append(missing, fmt.Errorf("%s is not there", b.Path(name)))
		}
	}
	return b, errors.Join(missing...)
}

// Path is where a program is.
func (b Binaries) Path(name string) string {
	if b.Assets != "" && (name == "etcd" || name == "kube-apiserver" || name == "kubectl") {
		if path := filepath.Join(b.Assets, name); isFile(path) {
			return path
		}
	}
	return filepath.Join(b.Dir, name)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// StartAPIServer starts etcd and kube-apiserver and returns when it is ready.
func StartAPIServer(ctx context.Context, r *Run, n *Network, b Binaries, o APIOptions) (*APIServer, error) {
	space, err := n.NewSpace(ctx, "api")
	if err != nil {
		return nil, err
	}
	a := &APIServer{Space: space, dir: r.Path("api")}
	if a.authority, err = cert.NewAuthority("kubernetes"); err != nil {
		return nil, err
	}
	if err := a.writeCertificates(a.dir); err != nil {
		return nil, err
	}
	etcd, err := r.StartProcess(Command{Name: "etcd", Space: space, Path: b.Path("etcd"), Args: []string{
		"--data-dir=" + filepath.Join(a.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + clientURL, "--advertise-client-urls=" + clientURL,
	}})
	if err != nil {
		return nil, err
	}
	server, err := r.StartProcess(Command{Name: "kube-apiserver", Space: space, Path: b.Path("kube-apiserver"), Args: a.flags(o)})
	if err != nil {
		return nil, err
	}
	if !o.Cluster {
		// The service address of the API server itself.
		if err := n.RouteService(ctx, netip.MustParsePrefix(serviceCIDR).Addr().Next(), space); err != nil {
			return nil, err
		}
	}
	if err := a.forward(ctx, r); err != nil {
		return nil, err
	}
	return a, a.waitReady(ctx, etcd, server)
}

func (a *APIServer) flags(o APIOptions) []string {
	file := a.File
	flags := []string{
		"--etcd-servers=" + clientURL,
		"--bind-address=0.0.0.0", "--secure-port=" + apiPort, "--advertise-address=" + a.Space.IP.String(),
		"--tls-cert-file=" + file("tls.crt"), "--tls-private-key-file=" + file("tls.key"),
		"--client-ca-file=" + file("ca.crt"),
		"--service-account-key-file=" + file("sa.key"), "--service-account-signing-key-file=" + file("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc", "--api-audiences=https://kubernetes.default.svc",
		"--authorization-mode=Node,RBAC",
		"--service-cluster-ip-range=" + serviceCIDR,
		"--allow-privileged=true", // the agent's pod is privileged
	}
	if !o.Cluster {
		// No controller-manager makes the default ServiceAccounts that this one wants.
		return append(flags, "--disable-admission-plugins=ServiceAccount")
	}
	return append(flags, "--enable-admission-plugins=NodeRestriction",
		"--kubelet-client-certificate="+file("kubelet-client.crt"), "--kubelet-client-key="+file("kubelet-client.key"),
		"--kubelet-certificate-authority="+file("ca.crt"), "--kubelet-preferred-address-types=InternalIP")
}

// File is one of its files, as the host sees it: ca.crt, sa.key.
func (a *APIServer) File(name string) string { return filepath.Join(a.dir, name) }

func (a *APIServer) writeCertificates(dir string) error {
	if err := writeFile(filepath.Join(dir, "ca.crt"), []byte(a.authority.PEM), 0o644); err != nil {
		return err
	}
	service := netip.MustParsePrefix(serviceCIDR).Addr().Next().String()
	if err := a.authority.WriteServer(dir, "kubernetes", "kubernetes.default.svc", a.Space.IP.String(), service, "127.0.0.1"); err != nil {
		return err
	}
	cert, key, err := a.authority.Issue(pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{masters}})
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "kubelet-client.crt"), cert, 0o644); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "kubelet-client.key"), key, 0o600); err != nil {
		return err
	}
	if _, key, err = a.authority.Issue(pkix.Name{CommonName: "service-accounts"}); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "sa.key"), key, 0o600)
}

// forward makes the API server reachable on a port of the host's loopback, and
// writes the admin's kubeconfig for it.
func (a *APIServer) forward(ctx context.Context, r *Run) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("port for the API server: %w", err)
	}
	// It outlives the start, whose ctx this is.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.OnClose(func() { stop(); _ = listener.Close() }) // ends the loop below
	target := net.JoinHostPort(a.Space.IP.String(), apiPort)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go relay(ctx, conn, func() (net.Conn, error) { return a.Space.DialContext(ctx, "tcp", target) })
		}
	}()
	cert, key, err := a.authority.Issue(pkix.Name{CommonName: "admin", Organization: []string{masters}})
	if err != nil {
		return err
	}
	a.Kubeconfig = r.Path("kubeconfig")
	server := "https://" + listener.Addr().String()
	if err := writeKubeconfig(a.Kubeconfig, server, a.authority.PEM, clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}); err != nil {
		return err
	}
	if a.Admin, err = clientcmd.BuildConfigFromFlags("", a.Kubeconfig); err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	a.Admin.QPS = -1
	a.Admin.WarningHandler = rest.NoWarnings{}
	return nil
}

// InsideURL is the API server as processes in the namespaces reach it.
func (a *APIServer) InsideURL() string {
	return "https://" + net.JoinHostPort(a.Space.IP.String(), apiPort)
}

// WriteTokenKubeconfig writes a kubeconfig for a process in the namespaces.
func (a *APIServer) WriteTokenKubeconfig(path, token string) error {
	return writeKubeconfig(path, a.InsideURL(), a.authority.PEM, clientcmdapi.AuthInfo{Token: token})
}

// CA is the PEM of the cluster's authority.
func (a *APIServer) CA() string { return a.authority.PEM }

// IssueClient makes a certificate of the cluster's authority, as PEM. With names
// it is good for a server too, a kubelet for one.
func (a *APIServer) IssueClient(subject pkix.Name, names ...string) (cert, key []byte, err error) {
	return a.authority.Issue(subject, names...)
}

// ClientKubeconfig is a kubeconfig with a certificate of its own, for a process
// in the namespaces: a kubelet is system:node:NAME of system:nodes.
func (a *APIServer) ClientKubeconfig(subject pkix.Name) ([]byte, error) {
	cert, key, err := a.authority.Issue(subject)
	if err != nil {
		return nil, err
	}
	return kubeconfig(a.InsideURL(), a.CA(), clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key})
}

func writeKubeconfig(path, server, ca string, user clientcmdapi.AuthInfo) error {
	data, err := kubeconfig(server, ca, user)
	if err != nil {
		return err
	}
	return writeFile(path, data, 0o600)
}

func kubeconfig(server, ca string, user clientcmdapi.AuthInfo) ([]byte, error) {
	const name = "demo"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: []byte(ca)}
	config.AuthInfos[name] = &user
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	data, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return data, nil
}

func (a *APIServer) waitReady(ctx context.Context, etcd, server *Process) error {
	client, err := kubernetes.NewForConfig(a.Admin)
	if err != nil {
		return fmt.Errorf("client of the API server: %w", err)
	}
	return server.WaitReady(ctx, func(ctx context.Context) error {
		if !etcd.Running() {
			return errors.Join(errors.New("etcd ended"), etcd.tail())
		}
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// relay copies both ways until either side ends.
func relay(ctx context.Context, near net.Conn, dial func() (net.Conn, error)) {
	defer near.Close() //nolint:errcheck // nothing to be done about it
	far, err := dial()
	if err != nil {
		return
	}
	defer far.Close() //nolint:errcheck // nothing to be done about it
	ended := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1]) // the other side sees the end
			ended <- struct{}{}
		}()
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
