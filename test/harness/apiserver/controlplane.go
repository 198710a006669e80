package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/d8-registry/registry/test/harness/loopback"
)

// startTimeout covers etcd and kube-apiserver on a machine that is busy with
// compiling other tests.
const startTimeout = 2 * time.Minute

// requestTimeout is that of one question whether a process is ready.
const requestTimeout = 5 * time.Second

// etcdDir is what etcd stores, in the directory of a ControlPlane.
const etcdDir = "etcd"

// ControlPlane is a running etcd with a running kube-apiserver.
type ControlPlane struct {
	dir             string
	addresses       []string // etcd for clients, etcd for peers, the API server
	config          *rest.Config
	version         string
	etcd, apiserver *child
}

// Launch starts both in dir, which must exist, and waits until the server is
// ready. The caller must call Stop.
func Launch(ctx context.Context, dir string) (*ControlPlane, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	plane := &ControlPlane{dir: dir}
	for range 3 {
		address, err := loopback.Free(ctx)
		if err != nil {
			return nil, err
		}
		plane.addresses = append(plane.addresses, address)
	}
	host, _, _ := strings.Cut(plane.addresses[2], ":")
	creds, err := writeCredentials(dir, host)
	if err != nil {
		return nil, err
	}
	plane.config = &rest.Config{
		Host:            "https://" + plane.addresses[2],
		TLSClientConfig: rest.TLSClientConfig{CAData: creds.caPEM, CertData: creds.adminCert, KeyData: creds.adminKey},
		QPS:             -1, // no client-side limit
	}
	if err := plane.start(ctx); err != nil {
		plane.Stop()
		return nil, err
	}
	return plane, nil
}

// start starts both processes, also after Stop: then they are where they were, with
// what is in the directory.
func (p *ControlPlane) start(ctx context.Context) error {
	etcdBinary, err := Binary("etcd")
	if err != nil {
		return err
	}
	apiserverBinary, err := Binary(serverPart())
	if err != nil {
		return err
	}
	etcdURL := p.etcdURL()
	if p.etcd, err = startChild(ctx, p.dir, etcdBinary, etcdArgs(p.dir, etcdURL, "http://"+p.addresses[1])); err != nil {
		return err
	}
	if err = waitReady(ctx, p.etcd, &http.Client{Timeout: requestTimeout}, etcdURL+"/health"); err != nil {
		return err
	}
	if p.apiserver, err = startChild(ctx, p.dir, apiserverBinary, apiserverArgs(p.dir, etcdURL, p.addresses[2])); err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(p.config)
	if err != nil {
		return err
	}
	if err = waitReady(ctx, p.apiserver, client, p.config.Host+"/readyz"); err != nil {
		return err
	}
	p.version, err = askVersion(ctx, p.config)
	return err
}

func (p *ControlPlane) etcdURL() string { return "http://" + p.addresses[0] }

func etcdArgs(dir, clientURL, peerURL string) []string {
	return []string{
		"--data-dir=" + filepath.Join(dir, etcdDir),
		"--listen-client-urls=" + clientURL, "--advertise-client-urls=" + clientURL,
		"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL,
		"--initial-cluster=default=" + peerURL,
		"--unsafe-no-fsync=true", "--log-level=error",
		"--quota-backend-bytes=8000000000", // more than 150,000 pods and their histories
	}
}

func apiserverArgs(dir, etcdURL, address string) []string {
	bind, port, _ := strings.Cut(address, ":")
	return []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=" + bind, "--secure-port=" + port,
		"--cert-dir=" + dir,
		"--tls-cert-file=" + filepath.Join(dir, "tls.crt"),
		"--tls-private-key-file=" + filepath.Join(dir, "tls.key"),
		"--client-ca-file=" + filepath.Join(dir, "ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + filepath.Join(dir, "sa.key"),
		"--service-account-signing-key-file=" + filepath.Join(dir, "sa.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", // for those who act as a kubelet
		// Without a controller-manager no namespace gets its default
		// ServiceAccount, and this plugin would refuse every pod.
		"--disable-admission-plugins=ServiceAccount",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--endpoint-reconciler-type=none",
		"--allow-privileged=true",
	}
}

// Config is a cluster administrator's, a copy.
func (p *ControlPlane) Config() *rest.Config { return rest.CopyConfig(p.config) }

// Version is what the API server says that it is, "v1.35.4" for instance.
func (p *ControlPlane) Version() string { return p.version }

// Stop ends both processes. What they wrote stays in the directory.
func (p *ControlPlane) Stop() {
	for _, c := range []*child{p.apiserver, p.etcd} {
		if c != nil {
			c.stop()
		}
	}
}

// waitReady asks url until it answers 200, the process ends, or ctx does.
func waitReady(ctx context.Context, c *child, client *http.Client, url string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if answers(ctx, client, url) {
			return nil
		}
		select {
		case <-c.exited:
			return fmt.Errorf("%s ended before it was ready: %s", c.name, c.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", c.name, ctx.Err(), c.lastWords())
		case <-tick.C:
		}
	}
}

func answers(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// makeDir makes a directory for one run and removes those of runs that were
// killed before they could.
func makeDir() (string, error) {
	const prefix = "registry-apitest-"
	stale, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range stale {
		pid, _, _ := strings.Cut(filepath.Base(dir)[len(prefix):], "-")
		if pid != "" && !exists("/proc/"+pid) {
			_ = os.RemoveAll(dir) // best effort
		}
	}
	return os.MkdirTemp("", prefix+strconv.Itoa(os.Getpid())+"-")
}
