package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
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
	bind            string   // the address that the API server listens on
	ports           []string // etcd for clients, etcd for peers, the API server
	config          *rest.Config
	version         string
	etcd, apiserver *child
}

// Launch starts both in dir, which must exist, and waits until the server is
// ready. The caller must call Stop. listen is an extra IP address that the
// server's certificate is good for, besides loopback; the server listens on
// all addresses then.
func Launch(ctx context.Context, dir string, listen net.IP) (*ControlPlane, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var err error
	for range 3 {
		var plane *ControlPlane
		// A free port is only free until somebody else takes it.
		if plane, err = launch(ctx, dir, listen); err == nil {
			return plane, nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrNoBinaries) {
			break
		}
	}
	return nil, err
}

func launch(ctx context.Context, dir string, listen net.IP) (*ControlPlane, error) {
	ports, err := freePorts(ctx, 3)
	if err != nil {
		return nil, err
	}
	addresses := []string{"127.0.0.1"}
	plane := &ControlPlane{dir: dir, bind: "127.0.0.1", ports: ports}
	if listen != nil {
		addresses, plane.bind = append(addresses, listen.String()), "0.0.0.0"
	}
	creds, err := writeCredentials(dir, addresses...)
	if err != nil {
		return nil, err
	}
	plane.config = &rest.Config{
		Host:            "https://127.0.0.1:" + ports[2],
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
	if p.etcd, err = startChild(ctx, p.dir, etcdBinary, etcdArgs(p.dir, etcdURL, "http://127.0.0.1:"+p.ports[1])); err != nil {
		return err
	}
	if err = waitReady(ctx, p.etcd, &http.Client{Timeout: requestTimeout}, etcdURL+"/health"); err != nil {
		return err
	}
	if p.apiserver, err = startChild(ctx, p.dir, apiserverBinary, apiserverArgs(p.dir, etcdURL, p.bind, p.ports[2])); err != nil {
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

func (p *ControlPlane) etcdURL() string { return "http://127.0.0.1:" + p.ports[0] }

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

func apiserverArgs(dir, etcdURL, bind, port string) []string {
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

// freePorts are n ports of loopback that nobody listened on a moment ago.
func freePorts(ctx context.Context, n int) ([]string, error) {
	var ports []string
	for range n {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		// Open until all are chosen, so that they differ.
		defer func() { _ = l.Close() }()
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("find a free port: %v is no TCP address", l.Addr())
		}
		ports = append(ports, strconv.Itoa(addr.Port))
	}
	return ports, nil
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
