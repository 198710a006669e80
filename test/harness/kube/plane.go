package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"os"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/machine"
)

// startPlane starts etcd, API server, controllers and scheduler.
func (c *Cluster) startPlane(ctx context.Context) error {
	var err error
	if c.API, err = machine.StartAPIServer(ctx, c.Run, c.Network, c.options.Binaries, machine.APIOptions{Cluster: true}); err != nil {
		return err
	}
	scheme, err := Scheme()
	if err != nil {
		return err
	}
	if c.Client, err = client.NewWithWatch(c.API.Admin, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("client of the cluster: %w", err)
	}
	// It would make the folder for volume plugins on the host.
	if err := c.startController(ctx, "kube-controller-manager", "10257",
		"--service-account-private-key-file="+c.API.File("sa.key"), "--root-ca-file="+c.API.File("ca.crt"),
		"--use-service-account-credentials", "--allocate-node-cidrs=false",
		"--flex-volume-plugin-dir="+c.Run.Path("flexvolumes")); err != nil {
		return err
	}
	return c.startController(ctx, "kube-scheduler", "10259")
}

// startController starts a part that lives beside the API server, and returns
// when it says on its port that it is healthy.
func (c *Cluster) startController(ctx context.Context, name, port string, args ...string) error {
	config, err := c.API.ClientKubeconfig(pkix.Name{CommonName: "system:" + name})
	if err != nil {
		return err
	}
	path := c.API.File(name + ".kubeconfig")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	process, err := c.Run.StartProcess(machine.Command{
		Name: name, Space: c.API.Space, Path: c.options.Binaries.Path(name),
		Args: append([]string{"--kubeconfig=" + path, "--leader-elect=false", "--bind-address=127.0.0.1"}, args...),
	})
	if err != nil {
		return err
	}
	http := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: c.API.Space.DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, // on loopback; it signs for itself
	}}
	return process.WaitReady(ctx, func(ctx context.Context) error { return healthy(ctx, http, "https://127.0.0.1:"+port) })
}

func healthy(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s/healthz answers %s", url, resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

// nodeOptions adds what every node of its kind has.
func (c *Cluster) nodeOptions(o NodeOptions) NodeOptions {
	labels := map[string]string{"node.deckhouse.io/group": "worker"}
	if o.ControlPlane {
		labels["node.deckhouse.io/group"] = "master"
	}
	for key, value := range o.Labels {
		labels[key] = value
	}
	o.Labels = labels
	return o
}

// startNode starts a machine and returns when its Node is Ready.
func (c *Cluster) startNode(ctx context.Context, n *Node) error {
	if err := n.start(ctx); err != nil {
		return err
	}
	if err := waitUntil(ctx, "Node "+n.Name, func(ctx context.Context) error { return c.registered(ctx, n) }); err != nil {
		return err
	}
	if err := c.startProxy(ctx, n); err != nil {
		return err
	}
	return c.WaitNode(ctx, n.Name)
}

// registered gives a Node what a kubelet must not give itself.
func (c *Cluster) registered(ctx context.Context, n *Node) error {
	var node corev1.Node
	if err := c.Client.Get(ctx, client.ObjectKey{Name: n.Name}, &node); err != nil {
		return err
	}
	if !n.ControlPlane {
		return nil
	}
	before := node.DeepCopy()
	node.Labels[labelControlPlane], node.Labels[labelMaster] = "", ""
	if !c.options.NoTaint {
		taint := corev1.Taint{Key: labelControlPlane, Effect: corev1.TaintEffectNoSchedule}
		tainted := false
		for _, t := range node.Spec.Taints {
			tainted = tainted || t.MatchTaint(&taint)
		}
		if !tainted {
			node.Spec.Taints = append(node.Spec.Taints, taint)
		}
	}
	return c.Client.Patch(ctx, &node, client.StrategicMergeFrom(before, client.MergeFromWithOptimisticLock{}))
}

const (
	labelControlPlane = "node-role.kubernetes.io/control-plane"
	labelMaster       = "node-role.kubernetes.io/master"
)

// WaitNode returns when a Node is Ready.
func (c *Cluster) WaitNode(ctx context.Context, name string) error {
	return waitUntil(ctx, "node "+name, func(ctx context.Context) error {
		var node corev1.Node
		if err := c.Client.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
			if condition.Type == corev1.NodeReady {
				return fmt.Errorf("%s: %s", condition.Reason, condition.Message)
			}
		}
		return errors.New("no condition Ready")
	})
}

// proxyConfig leaves alone what a namespace cannot set: the size of the kernel's
// table of connections.
const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.113.0.0/16
clientConnection: {kubeconfig: ` + proxyDir + `/kubeconfig}
conntrack: {maxPerCore: 0, min: 0}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
`

const proxyDir = "/etc/kubernetes/kube-proxy"

// startProxy starts a node's kube-proxy.
func (c *Cluster) startProxy(ctx context.Context, n *Node) error {
	config, err := c.API.ClientKubeconfig(pkix.Name{CommonName: "system:kube-proxy"})
	if err != nil {
		return err
	}
	return n.StartService(ctx, Service{
		Name: "kube-proxy", Path: "kube-proxy",
		Args:  []string{"--config=" + proxyDir + "/config.yaml", "--hostname-override=" + n.Name},
		Files: map[string]string{proxyDir + "/config.yaml": proxyConfig, proxyDir + "/kubeconfig": string(config)},
	})
}
