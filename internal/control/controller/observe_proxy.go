package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// Annotations by which each proxy tells about itself on its own Pod.
const (
	proxyPort    = 5001
	proofTimeout = 10 * time.Second
)

// observeProxy is how far the in-cluster proxy is.
func (r *Reconciler) observeProxy(ctx context.Context, s *sight, doc document) {
	p := &s.world.Proxy
	p.Exists = s.proxy != nil || s.service != nil
	p.Wanted, p.Missing = proxiesWanted(s.world.Nodes)
	generations := []int64{}
	still := map[types.UID]use{}
	for i := range s.inv.pods {
		pod := &s.inv.pods[i]
		if !isProxyPod(pod) || pod.DeletionTimestamp != nil {
			continue
		}
		if at := r.lastUse(still, pod, s.world.Now); at.After(p.LastUse) {
			p.LastUse = at
			p.Clients = strings.FieldsFunc(pod.Annotations[v1alpha1.AnnotationLastClient], func(c rune) bool { return c == ',' || c == ' ' })
		}
		g, err := strconv.ParseInt(pod.Annotations[v1alpha1.AnnotationGeneration], 10, 64)
		if err == nil && podReady(pod) {
			generations = append(generations, g)
		}
	}
	r.uses = still
	p.Ready = len(generations)
	if p.Ready > 0 {
		p.Generation = slices.Min(generations)
	}
	p.Message = rolloutOf(s.proxy, p.Wanted)
	node, hasNode := doc.user(userNode)
	if ip := clusterIP(s.service); ip != "" && hasNode && !doc.PKI.CA.IsZero() {
		p.Fallback = layout.Fallback{
			Host:        net.JoinHostPort(ip, strconv.Itoa(proxyPort)),
			CA:          doc.PKI.CA.Cert,
			Credentials: node.Credentials,
		}
	}
	r.prove(ctx, s, doc)
}

// use is the last use that a proxy told of, and when we saw that it was a new
// one. Clocks of nodes are not compared with ours.
type use struct {
	told string
	at   time.Time
}

// lastUse is when a proxy was last seen to be used; zero when it never was.
func (r *Reconciler) lastUse(still map[types.UID]use, pod *corev1.Pod, now time.Time) time.Time {
	told := pod.Annotations[v1alpha1.AnnotationLastUse]
	if told == "" {
		return time.Time{}
	}
	u := use{told, now}
	if seen := r.uses[pod.UID]; seen.told == told {
		u = seen
	}
	still[pod.UID] = u
	return u.at
}

// prove pulls the manifest of an image through the Service, as an in-cluster
// client does: with the read-only user and the published CA. It is asked once
// for each generation that all proxies have loaded.
func (r *Reconciler) prove(ctx context.Context, s *sight, doc document) {
	p := &s.world.Proxy
	if !doc.Desired.Proxy || p.Ready == 0 || p.Fallback.Host == "" || p.Generation < doc.Desired.LayoutOf(switchover.InClusterProxy).Generation {
		return
	}
	if p.Generation > r.proved {
		if err := r.pullThrough(ctx, p.Fallback.Host, doc); err != nil {
			p.Message = "pull through Service registry: " + err.Error()
			s.again = true
			return
		}
		r.proved = p.Generation
	}
	p.Pulled = r.proved
}

func (r *Reconciler) pullThrough(ctx context.Context, host string, doc document) error {
	client, ok := doc.user(userClient)
	if !ok {
		return errors.New("there is no read-only user yet")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(doc.PKI.CA.Cert)) {
		return errors.New("there is no CA yet")
	}
	// By the Service's IP, as on the certificate: the controller may run where
	// cluster DNS is not known.
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	if r.cfg.ProxyDial != "" {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.cfg.ProxyDial)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	name, reference := splitImage(r.cfg.Image)
	target := url.URL{Scheme: "https", Host: host, Path: "/v2/" + strings.Trim(layout.Fixed().Path+"/"+name, "/") + "/manifests/" + reference}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, target.String(), nil)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.SetBasicAuth(client.Username, client.Password)
	req.Header.Set("Accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return withoutSource(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", target.Path, resp.Status)
	}
	return nil
}

// withoutSource drops our own address, whose port is another one each time: a
// message that never stands still would be stored, and seen, for ever.
func withoutSource(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	still := *op
	still.Source = nil
	return &still
}

// splitImage is the repository and the tag or digest of an image below a base.
func splitImage(image string) (name, reference string) {
	if name, digest, ok := strings.Cut(image, "@"); ok {
		name, _, _ = strings.Cut(name, ":")
		return name, digest
	}
	name, tag, _ := strings.Cut(image, ":")
	return name, tag
}

// proxiesWanted is one per control-plane node that can run one. Where no
// control plane is visible the proxy runs anywhere.
func proxiesWanted(nodes []switchover.Node) (wanted int, missing []string) {
	for _, n := range nodes {
		switch {
		case !n.ControlPlane:
		case !n.Ready:
			missing = append(missing, n.Name+": NotReady")
		case !n.Schedulable:
			missing = append(missing, n.Name+": SchedulingDisabled")
		default:
			wanted++
		}
	}
	return max(wanted, 1), missing
}

// rolloutOf says what a Deployment's rollout misses, in the words that users
// of the module know.
func rolloutOf(d *appsv1.Deployment, wanted int) string {
	if d == nil {
		return ""
	}
	quoted := fmt.Sprintf("Deployment %q: ", d.Name)
	switch status := d.Status; {
	case status.ObservedGeneration < d.Generation:
		return "Deployment update is not yet observed by the controller"
	case int(status.UpdatedReplicas) < wanted:
		return quoted + fmt.Sprintf("%d of %d Pods have been updated to the latest specification", status.UpdatedReplicas, wanted)
	case status.Replicas > status.UpdatedReplicas:
		return quoted + fmt.Sprintf("%d outdated Pods are still running", status.Replicas-status.UpdatedReplicas)
	case status.AvailableReplicas < status.UpdatedReplicas:
		return quoted + fmt.Sprintf("%d of %d updated Pods are currently available", status.AvailableReplicas, status.UpdatedReplicas)
	}
	return ""
}

func isProxyPod(pod *corev1.Pod) bool {
	return pod.Namespace == v1alpha1.Namespace && pod.Labels[labelApp] == v1alpha1.DeploymentProxy
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func clusterIP(service *corev1.Service) string {
	if service == nil || net.ParseIP(service.Spec.ClusterIP) == nil {
		return ""
	}
	return service.Spec.ClusterIP
}
