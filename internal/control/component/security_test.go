package component

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/memory"
	"github.com/d8-registry/registry/internal/pod"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

var someConfig = Config{AgentPort: 5001, Image: "registry:v1"}

// warnings are the warnings that the API server sends.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

// admitted tries a pod template in a dry run, as a pod and as a Deployment in a
// namespace with these labels. It returns all refusals and warnings.
func admitted(t *testing.T, api *apiserver.API, labels map[string]string, template corev1.PodTemplateSpec) string {
	t.Helper()
	var said warnings
	config := api.Config()
	config.WarningHandler = &said
	c := api.ClientFor(t, config)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "secure-", Labels: labels}}
	if err := api.Client().Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	if len(template.Labels) == 0 {
		template.Labels = map[string]string{"app": "a"}
	}
	alone := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "a", Labels: template.Labels}, Spec: template.Spec}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "a"},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template},
	}
	for _, o := range []client.Object{alone, deployment} {
		if err := c.Create(t.Context(), o, client.DryRunAll); err != nil {
			said.HandleWarningHeader(0, "", err.Error())
		}
	}
	return strings.Join(said.said, "\n")
}

func restricted() map[string]string {
	return map[string]string{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
}

// d8System are the pod security labels of the chart's namespace.
func d8System(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "charts", "registry", "templates", "namespace.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, m := range regexp.MustCompile(`(pod-security\.kubernetes\.io/[a-z-]+): (\S+)`).FindAllStringSubmatch(string(text), -1) {
		labels[m[1]] = m[2]
	}
	if len(labels) == 0 {
		t.Fatal("the chart's namespace says nothing about pod security")
	}
	return labels
}

const someImage = "registry.example.com/d8/registry:v1"

func TestProxyIsRestricted(t *testing.T) {
	api := server.Start(t)
	template := proxyTemplate(someConfig, someImage)
	if said := admitted(t, api, restricted(), template); said != "" {
		t.Error(said)
	}
	// Without one of its fields it is refused.
	for what, loosen := range map[string]func(*corev1.SecurityContext){
		"allowPrivilegeEscalation": func(s *corev1.SecurityContext) { s.AllowPrivilegeEscalation = nil },
		"capabilities":             func(s *corev1.SecurityContext) { s.Capabilities = nil },
		"runAsNonRoot":             func(s *corev1.SecurityContext) { s.RunAsNonRoot = nil },
		"seccompProfile":           func(s *corev1.SecurityContext) { s.SeccompProfile = nil },
	} {
		worse := *template.DeepCopy()
		loosen(worse.Spec.Containers[0].SecurityContext)
		if said := admitted(t, api, restricted(), worse); !strings.Contains(said, what) || strings.Count(said, "\n") != 1 {
			t.Errorf("without %s: %q", what, said)
		}
	}
	checkOwn(t, template.Spec)
}

func TestAgentIsAdmitted(t *testing.T) {
	api := server.Start(t)
	template := agentTemplate(someConfig, someImage, 0)
	if said := admitted(t, api, d8System(t), template); said != "" {
		t.Error(said)
	}
	said := admitted(t, api, restricted(), template)
	for _, reason := range []string{"privileged", "host namespaces", "hostPath"} {
		if !strings.Contains(said, reason) {
			t.Errorf("%q says nothing of %s: is it looked at?", said, reason)
		}
	}
	// serve is refused for what it shares with node, for the SELinux type that it needs
	// for a folder of the node, and because the kubelet asks it on loopback, where alone
	// it listens.
	alone := *template.DeepCopy()
	alone.Spec.Containers = alone.Spec.Containers[:1]
	alone.Spec.InitContainers, alone.Spec.Volumes, alone.Spec.HostPID, alone.Spec.HostNetwork = nil, nil, false, false
	alone.Spec.Containers[0].VolumeMounts = nil
	alone.Spec.Containers[0].SecurityContext.SELinuxOptions = nil
	alone.Spec.Containers[0].StartupProbe, alone.Spec.Containers[0].LivenessProbe = nil, nil
	if said := admitted(t, api, restricted(), alone); said != "" {
		t.Errorf("serve: %s", said)
	}
	checkOwn(t, template.Spec)
}

// TestAStoreIsRestrictedButForTheHost: what refuses it are folders of the node, with the
// SELinux type that they need, the node's network, and the address at which the kubelet asks.
func TestAStoreIsRestrictedButForTheHost(t *testing.T) {
	api := server.Start(t)
	template := pod.Store{Image: someImage, Address: "10.0.0.1", Port: 5001, Path: "/opt/deckhouse/registry"}.Template()
	if said := admitted(t, api, d8System(t), template); said != "" {
		t.Error(said)
	}
	if said := admitted(t, api, restricted(), template); !strings.Contains(said, "hostPath") || !strings.Contains(said, "host namespaces") {
		t.Errorf("%q: is it looked at?", said)
	}
	alone := *template.DeepCopy()
	alone.Spec.Volumes, alone.Spec.HostNetwork = nil, false
	c := &alone.Spec.Containers[0]
	c.VolumeMounts, c.SecurityContext.SELinuxOptions, c.ReadinessProbe, c.LivenessProbe = nil, nil, nil, nil
	for i := range c.Ports {
		c.Ports[i].HostPort, c.Ports[i].HostIP = 0, ""
	}
	if said := admitted(t, api, restricted(), alone); said != "" {
		t.Error(said)
	}
	checkOwn(t, template.Spec)
}

// checkOwn checks what no standard asks for.
func checkOwn(t *testing.T, spec corev1.PodSpec) {
	t.Helper()
	if spec.AutomountServiceAccountToken == nil || spec.TerminationGracePeriodSeconds == nil || spec.PriorityClassName == "" {
		t.Error("token, grace period and priority are not said")
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		s := c.SecurityContext
		if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.RunAsUser == nil || s.RunAsGroup == nil || s.SeccompProfile == nil {
			t.Errorf("%s: %+v", c.Name, s)
		}
		// A kubelet without AppArmor refuses a Pod with any other profile.
		if a := s.AppArmorProfile; a != nil && a.Type != corev1.AppArmorProfileTypeUnconfined {
			t.Errorf("%s: %+v", c.Name, a)
		}
		if len(c.Resources.Requests) != 2 {
			t.Errorf("%s: requests %v", c.Name, c.Resources.Requests)
		}
	}
	for _, v := range spec.Volumes {
		if v.HostPath != nil && (v.HostPath.Type == nil || *v.HostPath.Type == corev1.HostPathUnset) {
			t.Errorf("volume %s: it is not said what it must be", v.Name)
		}
	}
}

// TestMemoryOfPulls: all connections and downloads that there may be fit below where Go's
// collector begins to work hard (memory.Heed), with a quarter left for all else.
func TestMemoryOfPulls(t *testing.T) {
	t.Parallel()
	limit := resource.MustParse(pod.MemoryLimit)
	room := limit.Value() / 5 * 4
	pulls := int64(proxy.Downloads(room))*proxy.DownloadTakes + int64(inbound.Pulls().Connections)*inbound.ConnectionTakes
	if pulls > room/4*3 {
		t.Errorf("pulls may take %d MiB of %d", pulls>>20, room>>20)
	}
}

// What serves pulls has a limit that it knows; what runs scripts has none that could
// kill one.
func TestMemoryLimits(t *testing.T) {
	t.Parallel()
	for _, c := range List(someConfig) {
		for _, container := range c.Template("image", 1).Spec.Containers {
			limit := container.Resources.Limits.Memory().String()
			env := map[string]string{}
			for _, e := range container.Env {
				env[e.Name] = e.Value
				if e.ValueFrom != nil && e.ValueFrom.ResourceFieldRef != nil {
					env[e.Name] = e.ValueFrom.ResourceFieldRef.Resource
				}
			}
			if container.Name == "node" && (limit != "0" || env["GOMEMLIMIT"] == "") || container.Name != "node" && (limit != "1Gi" || env[memory.Variable] != "limits.memory") {
				t.Errorf("%s/%s: limit %s, environment %v", c.Name, container.Name, limit, env)
			}
		}
	}
}
