package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/kube"
	"github.com/d8-registry/registry/test/harness/machine"
)

const (
	versionFirst  = "v0.1.0"
	versionSecond = "v0.2.0"

	oldNode      = "w1" // the one with containerd 1.x
	reimagedNode = "w2"
	addedNode    = "w3"

	// caFile stands for the documents' /path/to/ca.crt.
	caFile = "/etc/ssl/registry-io.crt"
)

// lookAround shows the cluster as it is before the module, and notes the nodes'
// files.
func (s *story) lookAround(ctx context.Context) error {
	for _, n := range s.nodes() {
		version, err := n.ContainerdVersion(ctx)
		if err != nil {
			return err
		}
		dump, err := n.Run(ctx, "", "containerd", "config", "dump")
		if err != nil {
			return err
		}
		path := configPath(dump)
		s.out.say("%s: containerd %s, host directories: %q", n.Name, version, path)
		if n.Name == oldNode {
			s.expect("containerd 1.x looks into no host directory before its first switch", unless(path == "", "it looks into %s", path))
		} else {
			s.expect("containerd 2.x has Mirror Auth before any switch", unless(path != "", "it looks into none"))
		}
		if err := s.prepareNode(ctx, n); err != nil {
			return err
		}
		if s.files[n.Name], err = n.Snapshot(); err != nil {
			return err
		}
		s.out.say("%s: %d files below /etc noted", n.Name, len(s.files[n.Name]))
	}
	if _, err := s.shell(ctx, "d8 k get nodes -o wide"); err != nil {
		return err
	}
	var err error
	if s.objects, err = s.everything(ctx); err != nil {
		return err
	}
	_, err = s.cluster.Kubectl(ctx, "", "get", "configmap", "-n", "kube-system", "d8-cluster-configuration")
	s.expect("no ClusterConfiguration: the cluster is nobody's", unless(err != nil, "there is one"))
	return s.noted(ctx)
}

// prepareNode gives a node what the documents take for granted: the certificate
// that their hosts.toml names.
func (s *story) prepareNode(ctx context.Context, n *kube.Node) error {
	_, err := n.Run(ctx, s.a().CA, "tee", caFile)
	return err
}

// configPath is where a containerd looks for hosts.toml, by its own word.
func configPath(dump string) string {
	for line := range strings.Lines(dump) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if ok && key == "config_path" {
			if value = strings.Trim(value, `"'`); value != "" {
				return value
			}
		}
	}
	return ""
}

// unless is an error with a reason if something does not hold.
func unless(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// noted looks at what later steps compare with.
func (s *story) noted(ctx context.Context) (err error) {
	s.before, err = s.look(ctx)
	return err
}

// install builds the module's image in two versions, pushes them to both
// registries, and installs the first.
func (s *story) install(ctx context.Context) error {
	for _, version := range []string{versionFirst, versionSecond} {
		began := time.Now()
		if err := s.cluster.PushModule(ctx, version); err != nil {
			return err
		}
		s.out.say("%s built and pushed to %s and %s: %s", version, s.a().Base(), s.b().Base(), seconds(time.Since(began)))
	}
	s.out.say("values: %v", s.cluster.Values(versionFirst)["controller"])
	s.out.say("$ helm install registry charts/registry -n d8-system --create-namespace -f values.yaml --wait")
	began := time.Now()
	if err := s.cluster.Install(ctx, versionFirst); err != nil {
		return err
	}
	s.took("helm install, until an agent is ready on every node", time.Since(began))
	_, err := s.shell(ctx, "d8 k -n d8-system get deployments,daemonsets,pods -o wide")
	return err
}

// freshUnmanaged is the state that every cluster begins with.
func (s *story) freshUnmanaged(ctx context.Context) error {
	if err := s.ready(ctx, "Unmanaged"); err != nil {
		return err
	}
	if _, err := s.showStatus(ctx, 0); err != nil {
		return err
	}
	if err := s.noInternalRegistry(ctx); err != nil {
		return err
	}
	secret, err := s.secret(ctx, "deckhouse-registry")
	if err != nil {
		return err
	}
	address := string(secret.Data["address"]) + string(secret.Data["path"])
	s.expect("deckhouse-registry is the registry of the installation", unless(address == s.a().Base(), "it is %s", address))
	for _, n := range s.nodes() {
		now, err := n.Snapshot()
		if err != nil {
			return err
		}
		s.expect("no file below /etc of "+n.Name+" was touched", differences(s.files[n.Name], now))
	}
	s.refusedInUnmanaged(ctx)
	_, err = s.cluster.Helm(ctx, "template", "registry", s.cluster.Chart(), "--set", "registry.imagesRepo=a.example/b", "--set", "registry.mode=Direct")
	s.expect("the chart does not bootstrap in Direct", refused(err, "mode"))
	return nil
}

// noInternalRegistry looks for what only the internal registry has.
func (s *story) noInternalRegistry(ctx context.Context) error {
	key := client.ObjectKey{Namespace: system, Name: "registry"}
	service := s.client.Get(ctx, key, &corev1.Service{})
	key.Name = "registry-incluster-proxy"
	proxy := s.client.Get(ctx, key, &appsv1.Deployment{})
	s.expect("no Service registry and no proxy", unless(apierrors.IsNotFound(service) && apierrors.IsNotFound(proxy), "%v; %v", service, proxy))
	return nil
}

// moduleConfig is ModuleConfig deckhouse with a section registry.
func moduleConfig(section string) string {
	return "apiVersion: deckhouse.io/v1alpha1\nkind: ModuleConfig\nmetadata: {name: deckhouse}\nspec:\n  version: 1\n  enabled: true\n  settings:\n    registry: " + section + "\n"
}

// refusedInUnmanaged tries what the documents say is not supported.
func (s *story) refusedInUnmanaged(ctx context.Context) {
	for _, try := range []struct{ what, section, words string }{
		{"a registry in Unmanaged", "{mode: Unmanaged, unmanaged: {imagesRepo: other.example/x}}", "Switch to 'Direct', change it there"},
		{"Direct's section in Unmanaged", "{mode: Unmanaged, direct: {imagesRepo: other.example/x}}", "'direct' section must be omitted"},
		{"Proxy without its section", "{mode: Proxy}", "'proxy' section must be specified"},
		{"Local", "{mode: Local}", "not supported yet"},
	} {
		_, err := s.cluster.Kubectl(ctx, moduleConfig(try.section), "apply", "--dry-run=server", "-f", "-")
		s.expect("refused: "+try.what, refused(err, try.words))
	}
}

// refused is an error if something was not refused, or with other words.
func refused(err error, words string) error {
	switch {
	case err == nil:
		return errors.New("it was accepted")
	case !strings.Contains(err.Error(), words):
		return fmt.Errorf("the message does not say %q: %w", words, err)
	default:
		return nil
	}
}

// differences compares files of a node, by path.
func differences(before, now map[string]string) error {
	var diff []string
	for _, path := range slices.Sorted(maps.Keys(before)) {
		if is, ok := now[path]; !ok {
			diff = append(diff, "- "+path)
		} else if is != before[path] {
			diff = append(diff, fmt.Sprintf("! %s: %s, was %s", path, is, before[path]))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(now)) {
		if _, ok := before[path]; !ok {
			diff = append(diff, "+ "+path)
		}
	}
	if len(diff) == 0 {
		return nil
	}
	return errors.New("\n" + strings.Join(diff, "\n"))
}

// platform starts what the platform consists of, and what pulls from now on.
func (s *story) platform(ctx context.Context) error {
	if err := s.cluster.ApplyPlatform(ctx); err != nil {
		return err
	}
	if err := s.cluster.StartClient(ctx, reimagedSafe); err != nil {
		return err
	}
	if _, err := s.shell(ctx, "d8 k get pods -A -o wide"); err != nil {
		return err
	}
	if err := s.fillMirrors(); err != nil {
		return err
	}
	p, err := startPulls(ctx, s)
	if p != nil {
		s.pulls = p
	}
	if err != nil {
		return err
	}
	if err := s.enough(ctx, fewest); err != nil {
		return err
	}
	if s.breaks {
		return s.breakPulls(ctx)
	}
	return nil
}

// breakPulls is the negative control: without its only registry pulls fail, and
// so must the story.
func (s *story) breakPulls(ctx context.Context) error {
	s.a().Stop()
	s.out.say("BREAK: %s is off while nothing else serves its name", s.a().Host)
	if err := s.enough(ctx, fewest); err != nil {
		return err
	}
	return s.a().Start(ctx)
}

// reimagedSafe is a worker that stays as it is: the client pod is there.
const reimagedSafe = oldNode

// fillMirrors puts the image of the documents' commands into their registries.
func (s *story) fillMirrors() error {
	const path = "registry/path"
	platform, err := machine.NewPlatform(s.cluster.Run.Path("mirrored"), []string{path}, map[string]string{path: "tag"}, nil)
	if err != nil {
		return err
	}
	s.mirrored = platform.Images[0]
	for _, g := range s.cluster.Registries[2:] {
		if err := platform.Fill(g.Storage(), path); err != nil {
			return err
		}
	}
	return nil
}
