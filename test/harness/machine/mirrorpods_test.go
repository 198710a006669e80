package machine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/kubelet"
	"github.com/d8-registry/registry/test/harness/machine"
)

// TestAServiceLeadsToStaticPods: what a node runs by a file is seen in the API server, ready
// when it is, and a Service that selects it leads there, until the file goes.
func TestAServiceLeadsToStaticPods(t *testing.T) {
	c := start(t, buildStore(t))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cl, err := client.New(c.API.Admin, client.Options{Scheme: scheme.Scheme})
	must(err)
	must(c.CreateNodes(t.Context(), cl))
	must(cl.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.Namespace}}))
	const service = "10.112.0.9"
	must(cl.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: "registry"},
		Spec: corev1.ServiceSpec{
			ClusterIP: service, Selector: map[string]string{v1alpha1.LabelApp: v1alpha1.PodStore},
			Ports: []corev1.ServicePort{{Port: 5001, TargetPort: intstr.FromString("distribution")}},
		},
	}))
	ctx, stop := context.WithCancel(t.Context())
	view, err := machine.NewView(ctx, c.API.Admin)
	must(err)
	played := make(chan error, 1)
	standins := machine.NewStandins(c, cl, view, machine.NewRecorder("test"), slog.New(slog.NewTextHandler(t.Output(), nil)))
	go func() { played <- standins.Run(ctx) }()
	t.Cleanup(func() { stop(); must(<-played) })

	image, err := c.Platform.Image("module/image-1")
	must(err)
	master := c.Nodes[0]
	reference := image.Reference(c.Registries[0].Base())
	must(master.Pull(t.Context(), reference, machine.Login{Username: "puller", Password: "secret"}))
	node := &storeNode{StaticPods: &machine.StaticPods{Space: master.Space}, t: t}
	node.prepare()
	node.order(reference, "v1")

	answers := func() error {
		conn, err := c.Nodes[1].Space.DialContext(t.Context(), "tcp", service+":5001")
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // only whether it answers
		return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context())
	}
	shown := func() (found corev1.Pod, err error) {
		err = cl.Get(t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.PodStore + "-" + master.Name}, &found)
		return found, err
	}
	until(t, "the store behind the Service", answers)
	if found, err := shown(); err != nil || !kubelet.Ready(&found) || found.Spec.NodeName != master.Name || found.Status.HostIP != master.Space.IP.String() {
		t.Errorf("%+v, %v", found, err)
	}
	pods, err := standins.StaticPods(master.Name)
	must(err)
	pods.Off(true)
	if answers() == nil {
		t.Error("it answers, and is off")
	}
	pods.Off(false)
	until(t, "it is on again", answers)
	must(os.Remove(node.path(manifest)))
	until(t, "nobody behind the Service", func() error {
		_, err := shown()
		if answers() == nil || err == nil {
			return errors.New("it answers, or the pod is shown")
		}
		return client.IgnoreNotFound(err)
	})
}

// until waits until there is no error.
func until(t *testing.T, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(100 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s: %v", what, err)
		}
	}
}
