package kube

import (
	"context"
	"crypto/x509/pkix"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/machine"
	"github.com/d8-registry/registry/test/harness/parts"
)

// source is the module's; SOURCE is for who wants to build another.
func source() string {
	if dir := os.Getenv("SOURCE"); dir != "" {
		return dir
	}
	return "../../.."
}

// newRun is a run for a test; logs of what ran are printed when it fails.
func newRun(t *testing.T) (*machine.Run, machine.Binaries, *slog.Logger) {
	t.Helper()
	parts.Need(t)
	b, err := machine.FindBinaries(filepath.Join("..", "..", "..", ".parts", "bin"))
	if err != nil {
		t.Skip("real parts are missing (make parts):", err)
	}
	if missing := Missing(b); len(missing) > 0 {
		t.Skip("missing:\n" + strings.Join(missing, "\n"))
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	parent, keep := t.TempDir(), os.Getenv("KEEP")
	if keep != "" {
		parent = keep
	}
	r, err := machine.NewRun(parent, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.LogEnds(1500))
		}
		if err := r.Close(keep != ""); err != nil {
			t.Error(err)
		}
	})
	return r, b, log
}

// TestControllers starts the control plane alone: what its controllers make is
// there, and what its admission refuses is refused.
func TestControllers(t *testing.T) {
	t.Parallel()
	r, b, log := newRun(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	network, err := machine.NewNetwork(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Run: r, Network: network, log: log, options: Options{Binaries: b, Source: source()}}
	if err := c.startPlane(ctx); err != nil {
		t.Fatal(err)
	}
	must := func(script string) string {
		t.Helper()
		out, errOut, err := c.Shell(ctx, "set -e\n"+script)
		if err != nil {
			t.Fatalf("%s: %v: %s", script, err, errOut)
		}
		return out
	}
	must(`d8 k create namespace shop
until kubectl -n shop get serviceaccount default 2>/dev/null; do sleep 0.1; done
kubectl -n shop create deployment web --image=example.test/web
until kubectl -n shop get pods -o name | grep pod/web; do sleep 0.1; done`)
	if ca := must("until kubectl -n shop get configmap kube-root-ca.crt 2>/dev/null >&2; do sleep 0.1; done; kubectl -n shop get configmap kube-root-ca.crt -o jsonpath='{.data.ca\\.crt}'"); ca != c.API.CA() {
		t.Errorf("pods trust %q, want the cluster's CA", ca)
	}
	must("until kubectl -n shop get pods | grep Pending; do sleep 0.1; done; kubectl delete namespace shop --wait --timeout=20s")
	node, err := c.API.ClientKubeconfig(pkix.Name{CommonName: "system:node:w1", Organization: []string{"system:nodes"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Path("w1"), node, 0o600); err != nil {
		t.Fatal(err)
	}
	// The address inside is not the one outside: a kubelet's request, from here.
	_, errOut, err := c.Shell(ctx, `server=$(kubectl config view --raw -o jsonpath='{.clusters[0].cluster.server}')
kubectl create -o name -f - <<END || exit 2
{apiVersion: v1, kind: Node, metadata: {name: w1}}
END
kubectl --kubeconfig=`+r.Path("w1")+` --server=$server label node w1 node-role.kubernetes.io/control-plane=`)
	if err == nil || !strings.Contains(errOut, "is not allowed to modify labels") {
		t.Errorf("a kubelet makes itself a control-plane node: %v: %s", err, errOut)
	}
}
