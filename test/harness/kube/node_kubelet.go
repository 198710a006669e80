package kube

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/d8-registry/registry/test/harness/machine"
)

const (
	kubeletService = "kubelet"
	kubeletDir     = "/etc/kubernetes/kubelet"
	// ManifestDir is where a node's kubelet looks for static pods.
	ManifestDir = "/etc/kubernetes/manifests"
	healthzPort = "10248"
)

// ClusterDNS is the address of the cluster's name server.
const ClusterDNS = "10.112.0.10"

// kubeletConfig is a kubelet's file. On a test machine a full disk is nobody's
// business: nothing is evicted and no image is collected for it.
func kubeletConfig(cgroup string) map[string]any {
	config := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": kubeletDir + "/ca.crt"},
		},
		"authorization": map[string]any{"mode": "Webhook"},
		"tlsCertFile":   kubeletDir + "/tls.crt", "tlsPrivateKeyFile": kubeletDir + "/tls.key",
		"healthzPort": 10248, "port": 10250, "healthzBindAddress": "127.0.0.1",
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
		"staticPodPath":            ManifestDir,
		"resolvConf":               "/etc/resolv.conf",
		"clusterDNS":               []string{ClusterDNS}, "clusterDomain": "cluster.local",
		"cgroupDriver": "cgroupfs", "cgroupRoot": cgroup,
		"evictionHard":                map[string]string{},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"failSwapOn":             false,
		"makeIPTablesUtilChains": false,
		"volumePluginDir":        "/var/lib/kubelet/volume-plugins",
	}
	if !machine.CgroupV2() {
		config["failCgroupV1"] = false
	}
	return config
}

// startKubelet returns when the kubelet is healthy. Its Node may come later.
func (n *Node) startKubelet(ctx context.Context) error {
	var err error
	if n.cgroup, err = n.env.run.MakeCgroup(n.Name); err != nil {
		return err
	}
	s, err := n.kubelet()
	if err != nil {
		return err
	}
	if err := n.launch(ctx, s); err != nil {
		return err
	}
	client := n.httpClient()
	return n.waitService(ctx, kubeletService, func(ctx context.Context) error {
		return healthy(ctx, client, "http://"+net.JoinHostPort("127.0.0.1", healthzPort))
	})
}

func (n *Node) kubelet() (Service, error) {
	user := "system:node:" + n.Name
	kubeconfig, err := n.env.api.ClientKubeconfig(pkix.Name{CommonName: user, Organization: []string{"system:nodes"}})
	if err != nil {
		return Service{}, err
	}
	cert, key, err := n.env.api.IssueClient(pkix.Name{CommonName: user, Organization: []string{"system:nodes"}}, n.Name, n.Space.IP.String())
	if err != nil {
		return Service{}, err
	}
	config, err := json.MarshalIndent(kubeletConfig(n.cgroup), "", "  ")
	if err != nil {
		return Service{}, fmt.Errorf("configure the kubelet of %s: %w", n.Name, err)
	}
	var labels []string
	for _, key := range slices.Sorted(maps.Keys(n.options.Labels)) {
		labels = append(labels, key+"="+n.options.Labels[key])
	}
	return Service{
		Name: kubeletService, Path: "kubelet",
		Args: []string{
			"--config=" + kubeletDir + "/config.yaml", "--kubeconfig=" + kubeletDir + "/kubeconfig",
			"--hostname-override=" + n.Name, "--node-ip=" + n.Space.IP.String(), "--node-labels=" + strings.Join(labels, ","), "--v=2",
		},
		Files: map[string]string{
			kubeletDir + "/config.yaml": string(config), kubeletDir + "/kubeconfig": string(kubeconfig),
			kubeletDir + "/ca.crt": n.env.api.CA(), kubeletDir + "/tls.crt": string(cert), kubeletDir + "/tls.key": string(key),
		},
	}, nil
}
