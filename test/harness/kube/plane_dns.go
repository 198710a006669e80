package kube

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	dnsImage  = "registry.k8s.io/coredns/coredns:e2e"
	dnsWithin = time.Minute
)

// dnsManifest is CoreDNS as clusters have it, but for its names: those of the
// registries are the internet's here.
const dnsManifest = `apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:coredns"}
rules:
  - {apiGroups: [""], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:coredns"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:coredns"}
subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data:
  Corefile: |
    .:53 {
      errors
      health {
        lameduck 5s
      }
      ready
      hosts {
${HOSTS}        fallthrough
      }
      kubernetes cluster.local in-addr.arpa {
        ttl 5
      }
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  replicas: 2
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      serviceAccountName: coredns
      priorityClassName: system-cluster-critical
      dnsPolicy: Default
      tolerations: [{operator: Exists}]
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - {weight: 100, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {k8s-app: kube-dns}}}}
      containers:
        - name: coredns
          image: ` + dnsImage + `
          imagePullPolicy: Never # it came with the machine
          args: [-conf, /etc/coredns/Corefile]
          ports: [{name: dns, containerPort: 53, protocol: UDP}, {name: dns-tcp, containerPort: 53, protocol: TCP}]
          readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 1}
          volumeMounts: [{name: config, mountPath: /etc/coredns, readOnly: true}]
      volumes: [{name: config, configMap: {name: coredns}}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: ` + ClusterDNS + `
  selector: {k8s-app: kube-dns}
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
`

// startDNS starts CoreDNS and returns when it runs.
func (c *Cluster) startDNS(ctx context.Context) error {
	var hosts strings.Builder
	for _, g := range c.Registries {
		name, _, _ := strings.Cut(g.Host, ":")
		fmt.Fprintf(&hosts, "        %s %s\n", g.Space.IP, name)
	}
	if err := c.Apply(ctx, strings.ReplaceAll(dnsManifest, "${HOSTS}", hosts.String())); err != nil {
		return fmt.Errorf("start CoreDNS: %w", err)
	}
	return c.Rollout(ctx, "kube-system", "deployment/coredns", dnsWithin)
}
