package stores

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/pod"
	"github.com/d8-registry/registry/internal/upstream"
)

// Most is how many stores there are.
const Most = v1alpha1.MostStores

// Wish is which stores there should be.
type Wish struct {
	// Nodes should run one, by name; of more than Most the first. None says that they should
	// not, or not yet.
	Nodes []string
	None  bool
	// Switching says that the switch that wants them is under way.
	Switching bool
	// Pod is what each is started with. Image, Version and Address are found here.
	Pod pod.Store
	// Images are what agents run, by node: such an image is there. Silent are the agents that
	// are not heard any more, by node, and since when.
	Images map[string]string
	Silent map[string]time.Time
	// Layout, Users and Pins, see that, are what all serve by; there need be no Pins.
	Layout, Users []byte
	Pins          []string
	// Names are those of the Services in front of stores, for their certificates.
	Names []string
	// CA signs. Trusted is what clients trust while it is replaced; empty, it is the CA.
	CA      pki.KeyPair
	Trusted string
}

// Nodes are those that should run a store: the control plane, and what the operator labels, for
// managed Kubernetes shows no control plane.
func Nodes(there *cluster.Snapshot) []string {
	var names []string
	for i := range there.Nodes {
		node := &there.Nodes[i]
		said, labelled := node.Labels[v1alpha1.LabelStore]
		if wants := cluster.IsControlPlane(node) || labelled; wants && said != "false" && cluster.WantsAgent(node) {
			names = append(names, node.Name)
		}
	}
	return names
}

// candidate is a node that should run a store.
type candidate struct {
	node      *corev1.Node
	have      *v1alpha1.RegistryNode // nil for none
	addresses []string
	// away is why the node is not waited for: it is lost or takes no pods, or the operator leaves
	// it out. It is empty for others.
	away string
}

// candidates are those nodes of a Wish that there are, in order.
func (w Wish) candidates(there *cluster.Snapshot) []candidate {
	wanted := slices.Compact(slices.Sorted(slices.Values(w.Nodes)))
	owners := map[string]int{}
	var all []candidate
	for i := range there.Nodes {
		node := &there.Nodes[i]
		c := candidate{node: node, have: there.RegistryNodes[node.Name], away: away(node)}
		if c.away == "" && node.Spec.Unschedulable {
			c.away = "node is cordoned"
		}
		for _, a := range node.Status.Addresses {
			ip, err := netip.ParseAddr(a.Address)
			if err == nil && a.Type == corev1.NodeInternalIP && ip.Zone() == "" && ip.IsGlobalUnicast() && !slices.Contains(c.addresses, ip.String()) {
				c.addresses = append(c.addresses, ip.String())
				owners[ip.String()]++
			}
		}
		if slices.Contains(wanted, node.Name) {
			all = append(all, c)
		}
	}
	for i := range all {
		// A kubelet says what its addresses are. One that says another's gets no certificate
		// for it, and no client is sent there.
		all[i].addresses = slices.DeleteFunc(all[i].addresses, func(a string) bool { return owners[a] > 1 })
	}
	slices.SortFunc(all, func(a, b candidate) int { return strings.Compare(a.node.Name, b.node.Name) })
	return all[:min(len(all), Most)]
}

// away is why nobody waits for what is on a node; empty if somebody does. What the operator says
// comes first: it stays so when the node is back.
func away(node *corev1.Node) string {
	switch {
	case node.Annotations[v1alpha1.AnnotationExclude] == "true":
		return "left out by annotation " + v1alpha1.AnnotationExclude
	case !cluster.IsReady(node):
		return "node is not Ready"
	}
	return ""
}

// report is what the node's agent said of its store; nil for nothing.
func (c candidate) report() *v1alpha1.StoreStatus { return reportOf(c.node, c.have) }

// reportOf is what was said in this boot of this node.
func reportOf(node *corev1.Node, have *v1alpha1.RegistryNode) *v1alpha1.StoreStatus {
	if have == nil || have.Status.NodeUID != string(node.UID) || have.Status.BootID != node.Status.NodeInfo.BootID {
		return nil
	}
	return have.Status.Store
}

// spec is what it is asked for; nil for nothing.
func (c candidate) spec() *v1alpha1.StoreSpec {
	if c.have == nil {
		return nil
	}
	return c.have.Spec.Store
}

// serves reports whether its store was seen to serve, and with which version.
func (c candidate) serves() (version string, ok bool) {
	r := c.report()
	if r == nil || r.State != v1alpha1.StoreServing {
		return "", false
	}
	return r.Version, true
}

// endpoint is where its store is; empty if it has no address of its own.
func (c candidate) endpoint(port int) string {
	if len(c.addresses) == 0 || port < 1 || port > 65535 {
		return ""
	}
	return netip.AddrPortFrom(netip.MustParseAddr(c.addresses[0]), uint16(port)).String()
}

// image is what the store of a node is to run: that of the agent beside it, for a static pod
// has no pull secret. One that serves keeps its own while the agent's is the same below another
// registry: a switch restarts no store.
func (w Wish) image(c candidate) string {
	agents, had := w.Images[c.node.Name], c.spec()
	if had == nil {
		return agents
	}
	if _, serves := c.serves(); agents == "" || serves && tail(had.Image) == tail(agents) {
		return had.Image
	}
	return agents
}

// tail is tag and digest of an image.
func tail(image string) string {
	name := image[strings.LastIndexByte(image, '/')+1:]
	return name[max(strings.IndexAny(name, ":@"), 0):]
}

// version is what a configuration is called, with this image. Its registry is no part of it.
func (w Wish) version(image string) string {
	w.Pod.Version, w.Pod.Address, w.Pod.Image = "", "", tail(image)
	return upstream.Digest(w.Pod)[:16]
}

// Specs is what each node is to be asked for; nodes that are not in it, for none. What keeps a
// node from its store is told by its name.
func (w Wish) Specs(there *cluster.Snapshot, now time.Time) (specs map[string]*v1alpha1.StoreSpec, problems map[string]error) {
	specs, problems = map[string]*v1alpha1.StoreSpec{}, map[string]error{}
	if w.None {
		return specs, problems
	}
	all, sets := w.candidates(there), daemonSetsIn(there)
	for _, c := range all {
		image := w.image(c)
		if image == "" {
			problems[c.node.Name] = errors.New("no agent runs there yet")
			continue
		}
		s := &v1alpha1.StoreSpec{
			Image: image, Version: w.version(image), Port: int32(w.Pod.Port), Path: w.Pod.Path, Quota: max(w.Pod.Quota, 0), Floor: max(w.Pod.Floor, 0),
			Addresses: c.addresses,
			// One that there is runs until its pod has ended.
			DaemonSet:  c.byDaemonSet() || sets.byNode[c.node.Name] != nil,
			PullSecret: w.needsSecret(there, c, image),
		}
		if w.Pod.TTL > 0 {
			s.TTL = w.Pod.TTL.String()
		}
		if had := c.spec(); had != nil {
			s.Certificate, s.Approved = had.Certificate, had.Approved
		}
		var err error
		if s.Certificate, err = w.sign(c, s.Certificate, now); err != nil {
			problems[c.node.Name] = err
		}
		specs[c.node.Name] = s
	}
	if name := w.next(all, specs); name != "" {
		specs[name].Approved = specs[name].Version
	}
	return specs, problems
}

// needsSecret reports whether a kubelet starts no static pod of an image that is on its node, for the
// agent runs it: it pulled that with the agent's pull secret, and from Kubernetes 1.35 on gives it to
// no pod without one (KubeletEnsureSecretPulledImages). It is looked for during the switch alone: later
// somebody answers the kubelet, and a pull that fails is one of then. What was found stays as long as
// the node runs a store, but where a static pod serves all the same: none is stopped to start by
// another way.
func (w Wish) needsSecret(there *cluster.Snapshot, c candidate, image string) bool {
	found := c.spec() != nil && c.spec().PullSecret
	if _, serves := c.serves(); serves {
		return found && c.report().DaemonSet
	}
	if found || !w.Switching || image != w.Images[c.node.Name] {
		return found
	}
	for pod := range storePods(there, c.node.Name) {
		if metav1.GetControllerOfNoCopy(pod).Kind == "Node" && pod.ImagePullFailed() && slices.Contains(pod.Images, image) {
			return true
		}
	}
	return false
}

// sign is the certificate for the key of a node, for its own addresses and the Services,
// whatever its request says. Without a request the one that there is stays.
func (w Wish) sign(c candidate, had string, now time.Time) (string, error) {
	r := c.report()
	switch {
	case len(c.addresses) == 0:
		return had, errors.New("the Node has no InternalIP of its own")
	case r == nil || r.Request == "":
		return had, nil
	}
	names := append(append([]string{"127.0.0.1"}, c.addresses...), w.Names...)
	certificate, err := pki.EnsureAnswer(now, w.CA, had, r.Request, names)
	if err != nil {
		return had, fmt.Errorf("its certificate stays as it is: %w", err)
	}
	return certificate, nil
}

// next is the node that may run the wanted version now; empty for none. While one that may
// already does not serve with it, no other may: that version may be bad. A store that does not
// serve anyway is next before one that does.
func (w Wish) next(all []candidate, specs map[string]*v1alpha1.StoreSpec) string {
	var idle, serving []string
	for _, c := range all {
		version, ok := c.serves()
		switch s := specs[c.node.Name]; {
		case s == nil:
		case s.Approved == s.Version && c.away == "" && (!ok || version != s.Version):
			return ""
		case s.Approved == s.Version, c.away != "", s.Certificate == "", len(s.Addresses) == 0:
		case ok:
			serving = append(serving, c.node.Name)
		default:
			idle = append(idle, c.node.Name)
		}
	}
	if all := append(idle, serving...); len(all) > 0 {
		return all[0]
	}
	return ""
}
