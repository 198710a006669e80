package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	podspec "github.com/d8-registry/registry/internal/pod"
	"github.com/d8-registry/registry/test/harness/kube"
	"github.com/d8-registry/registry/test/harness/machine"
)

const (
	storeNode     = "m0" // the only master
	storePod      = v1alpha1.PodStore + "-" + storeNode
	storeManifest = kube.ManifestDir + "/" + v1alpha1.PodStore + ".yaml"
	storeFiles    = "/etc/kubernetes/registry"
	storeData     = "/opt/deckhouse/registry"
	// gone is how long a static pod may take to end: it serves on for a while when told to.
	gone = 90 * time.Second
)

// settingsProxy is mode Proxy on a registry, by user and password. The documents have no example.
func settingsProxy(r *machine.Registry) string {
	users := slices.Sorted(maps.Keys(r.Users))
	return moduleConfig(fmt.Sprintf("{mode: Proxy, proxy: {imagesRepo: %q, scheme: HTTPS, username: %q, password: %q, ca: %q}}",
		r.Base(), users[0], r.Users[users[0]], r.CA))
}

// toProxy switches to Proxy on B.
func (s *story) toProxy(ctx context.Context) error {
	if err := s.noted(ctx); err != nil {
		return err
	}
	s.out.say("$ kubectl apply -f -   # mode: Proxy, imagesRepo: %s", s.b().Base())
	if _, err := s.cluster.Kubectl(ctx, settingsProxy(s.b()), "apply", "-f", "-"); err != nil {
		return err
	}
	return s.ready(ctx, "Proxy")
}

// proxyB switches to Proxy on the registry of now. The real kubelet of the master runs the store.
func (s *story) proxyB(ctx context.Context) error {
	if err := s.toProxy(ctx); err != nil {
		return err
	}
	if err := s.expectSteps(ctx, "RegistryContainsRequiredImages", "ContainerdConfigPreflightReady", "NodeServicesReady",
		"TransitionContainerdConfigReady", "DeckhouseRegistrySwitchReady", "FinalContainerdConfigReady", "CleanupInClusterProxy"); err != nil {
		return err
	}
	if err := s.storeRuns(ctx); err != nil {
		return err
	}
	proxy := s.client.Get(ctx, client.ObjectKey{Namespace: system, Name: "registry-incluster-proxy"}, &appsv1.Deployment{})
	s.expect("there is no in-cluster proxy", unless(apierrors.IsNotFound(proxy), "%v", proxy))
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.expect("no pod of the platform was restarted", samePods(ofPlatform(s.before.pods), now.pods))
	s.expectRestarts("no containerd was restarted", s.before, now, map[string]int{})
	if err := s.enough(ctx, fewest); err != nil {
		return err
	}
	return s.pulledByStore(ctx, "fresh")
}

// ofPlatform are the pods that are not the module's.
func ofPlatform(pods map[string]podFact) map[string]podFact {
	rest := maps.Clone(pods)
	maps.DeleteFunc(rest, func(name string, _ podFact) bool { return strings.HasPrefix(name, system+"/registry-") })
	return rest
}

// expectSteps demands that these conditions are shown, in this order.
func (s *story) expectSteps(ctx context.Context, want ...string) error {
	st, err := s.readStatus(ctx)
	if err != nil {
		return err
	}
	var shown []string
	for _, c := range st.Conditions {
		if c.Type != "Ready" {
			shown = append(shown, c.Type)
		}
	}
	s.expect("each step of the plan is shown, in order", unless(slices.Equal(shown, want), "%v, want %v", shown, want))
	return nil
}

// storeRuns looks at the static pod: as the kubelet was given it, and as the API server shows it.
func (s *story) storeRuns(ctx context.Context) error {
	n, err := s.cluster.Node(storeNode)
	if err != nil {
		return err
	}
	if _, err := s.shell(ctx, "d8 k -n d8-system get pods -l type=node-services -o wide; d8 k -n d8-system get endpointslices -l kubernetes.io/service-name=registry"); err != nil {
		return err
	}
	modes, err := n.Run(ctx, "", "stat", "-c", "%a %u %F", storeManifest, storeFiles+"/tls.key", storeFiles+"/layout", storeData)
	want := fmt.Sprintf("600 0 regular file\n600 %[1]d regular file\n600 %[1]d regular file\n700 %[1]d directory\n", podspec.User)
	s.expect("manifest, files and folder of the store are on "+storeNode+", and nobody else reads them", errors.Join(err, unless(modes == want, "%s", modes)))
	var pod corev1.Pod
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: system, Name: storePod}, &pod); err != nil {
		return fmt.Errorf("read Pod %s: %w", storePod, err)
	}
	s.expect(storePod+" is Ready", unless(podReady(&pod), "%s: %+v", pod.Status.Phase, pod.Status.ContainerStatuses))
	source := pod.Annotations["kubernetes.io/config.source"]
	s.expect("it is a static pod of the kubelet", unless(source == "file", "its source is %q", source))
	s.expect("the kubelet has its image without a pull secret", unless(len(pod.Spec.ImagePullSecrets) == 0, "%v", pod.Spec.ImagePullSecrets))
	if err := s.restricted(ctx); err != nil {
		return err
	}
	var others []string
	for _, other := range s.nodes() {
		if _, err := other.Run(ctx, "", "test", "!", "-e", storeManifest); err != nil && other.Name != storeNode {
			others = append(others, other.Name)
		}
	}
	s.expect("no worker runs one", unless(len(others) == 0, "%v", others))
	var own v1alpha1.RegistryNode
	if err := s.client.Get(ctx, client.ObjectKey{Name: storeNode}, &own); err != nil {
		return fmt.Errorf("read RegistryNode %s: %w", storeNode, err)
	}
	state := own.Status.Store
	s.expect("its agent says that it serves", unless(state != nil && state.State == v1alpha1.StoreServing, "%+v", state))
	return nil
}

// restricted asks the API server what of the store's pod the Pod Security Standard "restricted"
// would refuse. Nobody asks it of static pods: the namespace is privileged, for the agents.
func (s *story) restricted(ctx context.Context) error {
	_, warnings, err := s.cluster.Shell(ctx, "d8 k label --dry-run=server --overwrite namespace "+system+" pod-security.kubernetes.io/enforce=restricted")
	if err != nil {
		return fmt.Errorf("ask for what is restricted: %w: %s", err, warnings)
	}
	const mayNot = "host namespaces, hostPort, probe or lifecycle host, seLinuxOptions, restricted volume types"
	var refused string
	for line := range strings.Lines(warnings) {
		if _, why, ok := strings.Cut(strings.TrimSpace(line), storePod+": "); ok {
			refused = why
		}
	}
	s.expect("of the standard restricted it breaks what its place on the node's network and disk is", unless(refused == mayNot, "%q in %s", refused, warnings))
	return nil
}

// pulledByStore has all nodes pull, at once, images that nobody has had: by its log B sends each of
// their blobs once, and to the master, whose store gives them to all.
func (s *story) pulledByStore(ctx context.Context, folder string) error {
	fresh, err := machine.NewPlatform(s.cluster.Run.Path(folder), []string{folder + "/image-0", folder + "/image-1", folder + "/image-2"}, nil, nil)
	if err != nil {
		return err
	}
	if err := fresh.Fill(s.b().Storage(), s.b().Path); err != nil {
		return err
	}
	before, err := s.b().Log.Downloads()
	if err != nil {
		return err
	}
	group, all := errgroup.WithContext(ctx)
	for _, n := range s.nodes() {
		group.Go(func() error {
			for _, image := range fresh.Images {
				if err := n.Pull(all, fixedName+"@"+image.Digest, machine.Login{}); err != nil {
					return fmt.Errorf("pull %s on %s: %w", image.Name, n.Name, err)
				}
			}
			return nil
		})
	}
	s.expect(fmt.Sprintf("%d nodes pull %d images that nobody has had", len(s.nodes()), len(fresh.Images)), group.Wait())
	if err := s.sentOnce(ctx, fresh.Images, len(before)); err != nil {
		return err
	}
	kept, err := s.kept(ctx)
	for _, image := range fresh.Images {
		for _, blob := range image.Blobs {
			if hex := strings.TrimPrefix(blob, "sha256:"); err == nil && !slices.Contains(kept, hex) {
				err = fmt.Errorf("%s is not in %s", hex, storeData)
			}
		}
	}
	s.expect("the store keeps what it gave", err)
	return nil
}

// sentOnce reads B's log, from a line on: each blob of the images went to the store's node, and
// nowhere else. The log is written when an answer has ended, which a node may know before.
func (s *story) sentOnce(ctx context.Context, images []machine.Image, from int) error {
	by := map[string][]string{}
	all := until(ctx, "B to note what it sent", time.Minute, func(context.Context) error {
		sent, err := s.b().Log.Downloads()
		if err != nil {
			return err
		}
		clear(by)
		for _, d := range sent[from:] {
			by[d.Digest] = append(by[d.Digest], s.nodeOf(d))
		}
		for _, image := range images {
			for _, blob := range image.Blobs {
				if len(by[blob]) == 0 {
					return fmt.Errorf("nobody had %s of %s", blob, image.Name)
				}
			}
		}
		return nil
	})
	if all != nil {
		return all
	}
	for _, image := range images {
		for _, blob := range image.Blobs {
			s.expect("B sent "+blob+" once, to "+storeNode, unless(slices.Equal(by[blob], []string{storeNode}), "to %q", by[blob]))
		}
	}
	return nil
}

// kept are the blobs in the store's folder.
func (s *story) kept(ctx context.Context) ([]string, error) {
	n, err := s.cluster.Node(storeNode)
	if err != nil {
		return nil, err
	}
	list, err := n.Run(ctx, "", "sh", "-c", "ls "+storeData+"/blobs/sha256")
	return strings.Fields(list), err
}

// directAgain is the way back: the store's pod and files go, what it kept stays.
func (s *story) directAgain(ctx context.Context) error {
	if err := s.noted(ctx); err != nil {
		return err
	}
	if err := s.apply(ctx, docManage, 102, settingsB(s.b())...); err != nil {
		return err
	}
	if err := s.ready(ctx, "Direct"); err != nil {
		return err
	}
	if err := s.expectSteps(ctx, "RegistryContainsRequiredImages", "ContainerdConfigPreflightReady", "TransitionContainerdConfigReady",
		"InClusterProxyReady", "DeckhouseRegistrySwitchReady", "FinalContainerdConfigReady", "CleanupNodeServices"); err != nil {
		return err
	}
	s.expect("the store's pod is gone", until(ctx, "the end of "+storePod, gone, func(ctx context.Context) error {
		err := s.client.Get(ctx, client.ObjectKey{Namespace: system, Name: storePod}, &corev1.Pod{})
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	}))
	n, err := s.cluster.Node(storeNode)
	if err != nil {
		return err
	}
	for _, path := range []string{storeManifest, storeFiles} {
		_, err := n.Run(ctx, "", "test", "!", "-e", path)
		s.expect(path+" is gone", err)
	}
	kept, err := s.kept(ctx)
	if err != nil {
		return err
	}
	s.expect("what it kept stays on the disk", unless(len(kept) > 0, "there is nothing in %s", storeData))
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.expect("no pod of the platform was restarted", samePods(ofPlatform(s.before.pods), now.pods))
	s.expectRestarts("no containerd was restarted", s.before, now, map[string]int{})
	if err := s.fixedAddress(ctx); err != nil {
		return err
	}
	// Where it runs is the scheduler's: it prefers the masters, and is repelled by what runs there.
	proxies, err := s.podsOf(ctx, system, "registry-incluster-proxy")
	if err != nil {
		return err
	}
	s.expect("the in-cluster proxy is back", unless(slices.ContainsFunc(proxies, func(p corev1.Pod) bool { return podReady(&p) }), "of %d pods none is Ready", len(proxies)))
	return s.enough(ctx, fewest)
}
