package component

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"iter"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// proofTimeout is the timeout of one pull through the proxy.
const proofTimeout = 10 * time.Second

// ObserveProxy observes the in-cluster proxy. It may pull through the proxy, which
// can take a few seconds.
func (k *Keeper) ObserveProxy(ctx context.Context, v *state.View) {
	p := &v.Observed.Proxy
	proxy := inClusterProxy(k.cfg)
	have, service := proxy.there(v.Snapshot), v.OwnService(v1alpha1.ServiceRegistry)
	// With stores the Service may lead to them.
	p.Exists = have != nil || service != nil && v.Doc.Desired.Store.IsZero()
	p.Wanted, p.Missing = proxiesWanted(v.Observed.Nodes)
	k.observeProxyPods(v)
	observeIdentity(v)
	if have != nil {
		p.Message = cmp.Or(rolloutMessage(*have, proxy, v), unproved(v))
	}
	node, hasNode := v.Doc.User(state.UserNode)
	if ip, ca := clusterIP(service), v.Doc.PKI.Trusted(); ip != "" && hasNode && ca != "" {
		p.Fallback = layout.Fallback{
			Host:        net.JoinHostPort(ip, strconv.Itoa(proxyPort)),
			CA:          ca,
			Credentials: node.Credentials,
		}
	}
	k.prove(ctx, v)
}

// observeProxyPods reads what the proxy's pods report in their annotations.
func (k *Keeper) observeProxyPods(v *state.View) {
	p := &v.Observed.Proxy
	generations := []int64{}
	still := map[types.UID]use{}
	for pod := range proxyPods(v) {
		if at := k.lastUse(still, pod, v.Observed.Now); at.After(p.LastUse) {
			p.LastUse = at
			p.Clients = strings.FieldsFunc(pod.GetAnnotations()[v1alpha1.AnnotationLastClient], func(c rune) bool { return c == ',' || c == ' ' })
		}
		if reads := readsOf(pod); reads > 0 && (p.Reads == 0 || reads < p.Reads) {
			p.Reads = reads
		}
		g, err := strconv.ParseInt(pod.GetAnnotations()[v1alpha1.AnnotationGeneration], 10, 64)
		if err == nil && pod.Ready {
			generations = append(generations, g)
			if why, ok := strings.CutPrefix(pod.GetAnnotations()[v1alpha1.AnnotationTargetFails], v.Doc.Target.Upstream.String()+": "); ok {
				p.Failing, p.FailsBy = p.Failing+1, foreign.Line(why, foreign.Sentence)
			}
		}
	}
	k.uses = still
	p.Ready = len(generations)
	if p.Ready > 0 {
		p.Generation = slices.Min(generations)
	}
}

// readsOf is the highest schema of a layout that a proxy reads; 0 until it has said
// anything.
func readsOf(pod *excerpt.Pod) int {
	reads, err := strconv.Atoi(pod.GetAnnotations()[v1alpha1.AnnotationLayoutSchema])
	if err == nil && reads > 0 {
		return reads
	}
	for _, older := range []string{v1alpha1.AnnotationGeneration, v1alpha1.AnnotationMessage} {
		if pod.GetAnnotations()[older] != "" {
			return layout.Schema
		}
	}
	return 0
}

// unproved is why a proxy does not report the generation that it should serve, as it
// says itself; empty when none does.
func unproved(v *state.View) string {
	wanted := v.Doc.Desired.LayoutOf(switchover.InClusterProxy).Generation
	for pod := range proxyPods(v) {
		says := pod.GetAnnotations()[v1alpha1.AnnotationMessage]
		if says == "" {
			continue
		}
		if g, err := strconv.ParseInt(pod.GetAnnotations()[v1alpha1.AnnotationGeneration], 10, 64); err != nil || g < wanted {
			return foreign.Line("Pod "+pod.Name+": "+says, foreign.Sentence)
		}
	}
	return ""
}

// use is the time of last use that a proxy reported, and when we first saw it.
// Only the second is compared with our clock: clocks of nodes may be wrong.
type use struct {
	told string
	at   time.Time
}

// lastUse is when we last saw that a proxy was used; zero when it never was. The
// report is added to still, the reports of this pass.
func (k *Keeper) lastUse(still map[types.UID]use, pod *excerpt.Pod, now time.Time) time.Time {
	told := pod.GetAnnotations()[v1alpha1.AnnotationLastUse]
	if told == "" {
		return time.Time{}
	}
	u := use{told, now}
	if seen := k.uses[pod.GetUID()]; seen.told == told {
		u = seen
	}
	still[pod.GetUID()] = u
	return u.at
}

// prove pulls the manifest of an image through the Service as an in-cluster client
// does, with the read-only user and the published CA. It does so once for each
// generation that all proxies have loaded.
func (k *Keeper) prove(ctx context.Context, v *state.View) {
	p := &v.Observed.Proxy
	if !v.Doc.Desired.Proxy || p.Ready == 0 || p.Fallback.Host == "" || p.Generation < v.Doc.Desired.LayoutOf(switchover.InClusterProxy).Generation {
		return
	}
	if p.Generation > k.proved {
		if err := k.Pull(ctx, v.Doc, p.Fallback.Host, k.cfg.ProxyDial); err != nil {
			p.Message = "pull through Service registry: " + err.Error()
			v.Again = true
			return
		}
		k.proved = p.Generation
	}
	p.Pulled = k.proved
}

// Pull pulls the manifest of our own image as an in-cluster client does: through a Service or
// a store, with the read-only user and the published CA. Dial, if set, is where host is.
func (k *Keeper) Pull(ctx context.Context, doc state.Document, host, dial string) error {
	client, ok := doc.User(state.UserClient)
	if !ok {
		return errors.New("there is no read-only user yet")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(doc.PKI.Trusted())) {
		return errors.New("there is no CA yet")
	}
	// The address is the Service's IP, which is on the certificate too: the
	// controller may run where there is no cluster DNS.
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, MaxResponseHeaderBytes: transport.MaxHeader,
	}
	if dial != "" {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, dial)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	service := upstream.Upstream{Host: host, Path: layout.Fixed().Path, Scheme: upstream.HTTPS, Credentials: client.Credentials}
	asked := judge.Registry{Upstream: service, Transport: regauth.NewTransport(service, "/v2", transport)}
	if err := asked.Image(ctx, k.cfg.Image, nil); err != nil {
		return withoutSource(err)
	}
	return nil
}

// withoutSource removes our own address from an error. Its port changes each time,
// and every change of a message is stored.
func withoutSource(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	short := *op
	short.Source = nil
	return &short
}

// proxiesWanted is one for each control-plane node that can run one, and at least
// one: managed Kubernetes shows no control plane. Missing are the control-plane
// nodes that cannot, and why.
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

// proxyPods are the pods of the in-cluster proxy that are to stay.
func proxyPods(v *state.View) iter.Seq[*excerpt.Pod] {
	return func(yield func(*excerpt.Pod) bool) {
		for pod := range v.Inventory.OwnPods() {
			if pod.Labels[v1alpha1.LabelApp] == v1alpha1.DeploymentProxy && pod.GetDeletionTimestamp() == nil && !yield(pod) {
				return
			}
		}
	}
}

func clusterIP(service *corev1.Service) string {
	if service == nil || net.ParseIP(service.Spec.ClusterIP) == nil {
		return ""
	}
	return service.Spec.ClusterIP
}
