package pod_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/store"
	"github.com/d8-registry/registry/internal/pod"
)

func some() pod.Store {
	return pod.Store{Image: "registry.example.com/d8/registry:v1", Version: "7", Address: "10.0.0.1", Port: 5001, Path: "/opt/deckhouse/registry"}
}

// TestTheProgramTakesItsArguments: they are read by the program's own flags.
func TestTheProgramTakesItsArguments(t *testing.T) {
	t.Parallel()
	large := some()
	large.Quota, large.Floor, large.TTL, large.BesideEtcd = 5, 6, time.Hour, true
	v6 := some()
	v6.Address = "fd00::1"
	for name, c := range map[string]struct {
		pod  pod.Store
		want store.Config
	}{
		"by the disk": {some(), store.Config{Listen: "[10.0.0.1]:5001", Quota: -1, Floor: -1, TTL: 168 * time.Hour}},
		"all said":    {large, store.Config{Listen: "[10.0.0.1]:5001", Quota: 5, Floor: 6, TTL: time.Hour, Etcd: "/opt/deckhouse/registry"}},
		"IPv6":        {v6, store.Config{Listen: "[fd00::1]:5001", Quota: -1, Floor: -1, TTL: 168 * time.Hour}},
	} {
		container := c.pod.Template().Spec.Containers[0]
		var got store.Config
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		got.RegisterFlags(flags)
		if err := flags.Parse(container.Args); err != nil || flags.NArg() != 0 {
			t.Fatalf("%s: %v, %q", name, err, container.Args)
		}
		if got.Listen != c.want.Listen || got.Quota != c.want.Quota || got.Floor != c.want.Floor || got.TTL != c.want.TTL || got.Etcd != c.want.Etcd {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if got.Version != c.pod.Version || got.ConfigDir != pod.ConfigDir || got.Data != "/opt/deckhouse/registry" || got.Health != "127.0.0.1:5002" {
			t.Errorf("%s: %+v", name, got)
		}
		grace := time.Duration(*c.pod.Template().Spec.TerminationGracePeriodSeconds) * time.Second
		if grace < got.DrainDelay+got.Drain+10*time.Second {
			t.Errorf("%s: it is killed after %s", name, grace)
		}
	}
}

// TestTheHash: another process is another hash, and nothing else is.
func TestTheHash(t *testing.T) {
	t.Parallel()
	hash := func(s pod.Store) string { return s.Template().Annotations[v1alpha1.AnnotationConfigHash] }
	seen := map[string]string{hash(some()): "as it was"}
	for name, change := range map[string]func(*pod.Store){
		"image": func(s *pod.Store) { s.Image += "2" }, "version": func(s *pod.Store) { s.Version = "8" },
		"address": func(s *pod.Store) { s.Address = "10.0.0.2" }, "port": func(s *pod.Store) { s.Port++ },
		"path": func(s *pod.Store) { s.Path = "/mnt/store" }, "quota": func(s *pod.Store) { s.Quota = 1 },
		"floor": func(s *pod.Store) { s.Floor = 1 }, "ttl": func(s *pod.Store) { s.TTL = time.Hour },
		"etcd": func(s *pod.Store) { s.BesideEtcd = true },
	} {
		s := some()
		change(&s)
		if same, ok := seen[hash(s)]; ok {
			t.Errorf("another %s has the hash of %s", name, same)
		}
		seen[hash(s)] = name
	}
	if seen[hash(some())] != "as it was" || len(hash(some())) != 16 {
		t.Errorf("%q", hash(some()))
	}
}

// TestAStaticPodRefersToNothing: the kubelet refuses one that refers to a Secret, a ConfigMap
// or a ServiceAccount. The folders of the node are those that somebody else makes.
func TestAStaticPodRefersToNothing(t *testing.T) {
	t.Parallel()
	template := some().Template()
	spec := template.Spec
	if spec.ServiceAccountName != "" || *spec.AutomountServiceAccountToken || len(spec.ImagePullSecrets) > 0 || spec.HostPID || !spec.HostNetwork {
		t.Errorf("%+v", spec)
	}
	for _, v := range spec.Volumes {
		if v.HostPath == nil || *v.HostPath.Type != "Directory" {
			t.Errorf("%+v", v)
		}
	}
	if m := spec.Containers[0].VolumeMounts[0]; m.MountPath != pod.ConfigDir || !m.ReadOnly {
		t.Errorf("what the store serves by can be changed by it: %+v", m)
	}
	if l := template.Labels; l["component"] != "registry-service" || l["type"] != "node-services" || l["app"] != "registry-nodeservices" {
		t.Errorf("%v", l)
	}
	if template.Annotations["registry.deckhouse.io/config-version"] != "7" {
		t.Errorf("%v", template.Annotations)
	}
}

// TestTheUserIsTheImages: a folder that is given to another number is of no use.
func TestTheUserIsTheImages(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "hack", "image", "artifact.go"))
	if err != nil || !strings.Contains(string(text), `"64535:64535"`) || pod.User != 64535 {
		t.Errorf("the image's user is not %d, %v", pod.User, err)
	}
}
