package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/installation"
)

// TestEveryWorkloadInASwitch goes from Unmanaged on one registry to Direct on
// another, with every kind of workload: first a policy refuses two of them, then
// one does not come up, then all is well.
func TestEveryWorkloadInASwitch(t *testing.T) {
	c := newCluster(t)
	rows := table(c.from)
	c.make(rows)
	c.Until("Unmanaged", func(all installation.Conditions) bool {
		return all.Done(v1alpha1.ConditionReady)
	})
	c.Eventually("the platform runs", func() bool { return c.settled(rows) })
	c.patch(deployment("paused", 0, ""), `{"spec":{"paused":true}}`)
	c.startToEnd()
	recorded := c.record(func(key string, o client.Object) {
		if o.GetAnnotations()[annotationRepointed] == "" || o.GetDeletionTimestamp() != nil {
			return
		}
		switch key {
		case "Deployment " + platform + "/doomed":
			if err := c.Delete(t.Context(), o, client.PropagationPolicy(metav1.DeletePropagationBackground)); client.IgnoreNotFound(err) != nil {
				t.Error(err)
			}
		case "Deployment " + platform + "/scaled":
			if d, ok := o.(*appsv1.Deployment); ok && *d.Spec.Replicas == 1 {
				c.patch(o, `{"spec":{"replicas":4}}`)
			}
		}
	})

	lift := c.refuse("web", "cron")
	c.Ask(installation.Direct(c.b.Upstream(pathB)))
	refused := c.Until("it is refused", func(all installation.Conditions) bool {
		return strings.Contains(all[v1alpha1.ConditionSwitch].Message, "denied")
	})[v1alpha1.ConditionSwitch].Message
	t.Log(refused)
	for _, want := range []string{"CronJob " + platform + "/cron: ", "Deployment " + platform + "/web: ", "images come from our own registry"} {
		if !strings.Contains(refused, want) {
			t.Errorf("the refusal does not name %q", want)
		}
	}
	c.nothingChanged(recorded)

	c.kubelets.failPulls("db")
	c.patch(deployment("owners", 0, ""), `{"spec":{"template":{"metadata":{"labels":{"release":"2"}}}}}`)
	lift()
	stuck := "StatefulSet " + platform + "/db: Pod db-2 waits for its image; no other rollout begins before it has come up"
	t.Log(c.Until("one does not come up", func(all installation.Conditions) bool {
		return strings.Contains(all[v1alpha1.ConditionSwitch].Message, stuck)
	})[v1alpha1.ConditionSwitch].Message)
	began := c.begun(recorded)
	installation.Pause(2 * time.Second)
	if later := c.begun(recorded); len(later) > len(began) {
		t.Errorf("while one does not come up, %v begin", later[len(began):])
	}
	if slices.ContainsFunc(began, func(key string) bool { return strings.HasPrefix(key, "DaemonSet") }) {
		t.Errorf("DaemonSets are not last: %v", began)
	}

	c.kubelets.failPulls("")
	end := c.Until("Direct", func(all installation.Conditions) bool {
		return all.Done(v1alpha1.ConditionProxy) && all.Done(v1alpha1.ConditionReady)
	})
	c.wantMessages(rows, end)
	c.wantRows(rows)
	c.wantHistory(rows, recorded)
	c.wantEvents(rows)
}

// make makes what the table says, and waits for nothing.
func (c *cluster) make(rows []row) {
	c.t.Helper()
	digest, err := c.image.Digest()
	if err != nil {
		c.t.Fatal(err)
	}
	c.Make(budget())
	for _, r := range rows {
		spec := &templateOf(r.object).Spec
		for i := range spec.Containers {
			spec.Containers[i].Image = strings.Replace(spec.Containers[i].Image, digestPlaceholder, digest.String(), 1)
		}
		manager := "kubectl"
		if r.object.GetName() == "flux" {
			manager = "kustomize-controller"
		}
		if err := c.Create(c.t.Context(), r.object, client.FieldOwner(manager)); err != nil {
			c.t.Fatalf("create %s: %v", keyOf(r.object), err)
		}
	}
	bare := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: "bare"}, Spec: template("bare", "docker.io/library/busybox:1").Spec}
	c.Make(bare)
	debug := client.RawPatch(types.StrategicMergePatchType, fmt.Appendf(nil, `{"spec":{"ephemeralContainers":[{"name":"debug","image":%q}]}}`, c.from.Reference(":v1")))
	if err := c.SubResource("ephemeralcontainers").Patch(c.t.Context(), bare, debug); err != nil {
		c.t.Fatal(err)
	}
}

// startToEnd makes a workload in a Namespace that is being deleted and cannot.
func (c *cluster) startToEnd() {
	c.t.Helper()
	d := in(ending, deployment("held", 1, c.from.Reference(":v1")))
	d.Finalizers = []string{"test.example.com/stay"}
	c.Make(d)
	if err := c.Delete(c.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ending}}); err != nil {
		c.t.Fatal(err)
	}
	c.Eventually("it is being deleted", func() bool {
		err := c.Get(c.t.Context(), client.ObjectKeyFromObject(d), d)
		return err == nil && d.DeletionTimestamp != nil
	})
}

// settled reports whether every workload is as it should be before the switch.
func (c *cluster) settled(rows []row) bool {
	for _, r := range rows {
		o := r.object
		if err := c.Get(c.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			c.t.Fatal(err)
		}
		missing := 0
		switch o := o.(type) {
		case *appsv1.Deployment:
			missing = int(*o.Spec.Replicas - o.Status.AvailableReplicas)
		case *appsv1.StatefulSet:
			missing = int(*o.Spec.Replicas - o.Status.AvailableReplicas)
		case *appsv1.DaemonSet:
			missing = 3 - int(o.Status.NumberAvailable)
		}
		switch o.GetName() {
		case "broken", "ordered":
			missing = max(0, 1-len(c.podsOf(o)))
		case "half":
			missing--
		}
		if c.unsettled = fmt.Sprintf("%s misses %d Pods", keyOf(o), missing); missing != 0 {
			return false
		}
	}
	return true
}

func (c *cluster) patch(o client.Object, data string) {
	if err := c.Patch(c.t.Context(), o.DeepCopyObject().(client.Object), client.RawPatch(types.MergePatchType, []byte(data))); err != nil && !apierrors.IsNotFound(err) {
		c.t.Error(err)
	}
}

// refuse installs a policy engine that lets nobody change these.
func (c *cluster) refuse(names ...string) (lift func()) {
	c.t.Helper()
	m := metav1.ObjectMeta{Name: "test-engine"}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: m, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
			ResourceNames: names,
			RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{"apps", "batch"}, APIVersions: []string{"v1"}, Resources: []string{"deployments", "cronjobs"}},
			},
		}}},
		Validations: []admissionv1.Validation{{
			Expression: "request.userInfo.username != 'system:serviceaccount:d8-system:registry-controller'", Message: "images come from our own registry"}},
	}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: m, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: m.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}}}
	c.Make(policy)
	c.Make(binding)
	if err := server.Start(c.t).WaitForPolicies(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return func() {
		for _, o := range []client.Object{binding, policy} {
			if err := c.Delete(c.t.Context(), o); err != nil {
				c.t.Error(err)
			}
		}
	}
}

// begun are the workloads that were re-pointed until now.
func (c *cluster) begun(r *recorder) []string {
	all, _ := r.history(func(string) bool { return false })
	var keys []string
	for key := range all {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return int(int64(all[a].began) - int64(all[b].began)) })
	return keys
}

func (c *cluster) nothingChanged(r *recorder) {
	c.t.Helper()
	installation.Pause(time.Second)
	if began := c.begun(r); len(began) > 0 {
		c.t.Errorf("refused, and yet re-pointed: %v", began)
	}
	var secret corev1.Secret
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretRegistry}, &secret); err != nil {
		c.t.Fatal(err)
	}
	if got := string(secret.Data["address"]); got != c.from.Host {
		c.t.Errorf("refused, and yet deckhouse-registry names %s", got)
	}
}

// wantMessages looks at what the user reads at the end.
func (c *cluster) wantMessages(rows []row, conditions installation.Conditions) {
	c.t.Helper()
	left := []string{"Deployment " + ending + "/held: it is being deleted"}
	for _, r := range rows {
		if r.left != "" {
			left = append(left, keyOf(r.object)+": "+r.left)
		}
	}
	slices.Sort(left)
	if got, want := conditions[v1alpha1.ConditionSwitch].Message, "Not re-pointed: "+strings.Join(left, ", "); got != want {
		c.t.Errorf("the user reads\n%s\nwant\n%s", got, want)
	}
	got := conditions[v1alpha1.ConditionFinal].Message
	c.t.Log(got)
	for _, want := range []string{"Names that are still in use and served by " + c.b.Upstream(pathB).Base(), "- " + c.from.String() + ": ", " more"} {
		if !strings.Contains(got, want) {
			c.t.Errorf("the kept name is told as %q, without %q", got, want)
		}
	}
}

// wantRows compares templates and Pods with the table.
func (c *cluster) wantRows(rows []row) {
	c.t.Helper()
	for _, r := range rows {
		o := r.object
		if o.GetName() == "doomed" {
			continue
		}
		if err := c.Get(c.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			c.t.Fatal(err)
		}
		for _, image := range imagesOf(&templateOf(o).Spec) {
			if strings.HasPrefix(image, layout.Fixed().String()+":") != r.moved && !strings.HasPrefix(image, "docker.io/") {
				c.t.Errorf("%s has %s", keyOf(o), image)
			}
		}
		now, before := 0, 0
		for _, pod := range c.podsOf(o) {
			switch image := pod.Spec.Containers[0].Image; {
			case strings.HasPrefix(image, layout.Fixed().String()+":"):
				now++
			case strings.HasPrefix(image, c.from.String()+":"):
				before++
			}
		}
		for _, n := range []struct {
			what      string
			got, want int
		}{{"the new", now, r.now}, {"the old", before, r.before}} {
			if n.got != n.want && (n.want != some || n.got == 0) {
				c.t.Errorf("%s has %d Pods of %s name, want %d", keyOf(o), n.got, n.what, n.want)
			}
		}
	}
	c.wantOrder()
}

// wantOrder: init containers run in their order, and it stays.
func (c *cluster) wantOrder() {
	c.t.Helper()
	var web appsv1.Deployment
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: platform, Name: "web"}, &web); err != nil {
		c.t.Fatal(err)
	}
	spec := web.Spec.Template.Spec
	var names []string
	for _, container := range slices.Concat(spec.InitContainers, spec.Containers) {
		names = append(names, container.Name)
	}
	if got := strings.Join(names, " "); got != "zeroth foreign sidecar main another" {
		c.t.Errorf("the containers are in another order: %s", got)
	}
	if len(spec.Volumes) != 2 || spec.Volumes[1].Image == nil || !strings.HasPrefix(spec.Volumes[1].Image.Reference, layout.Fixed().String()) {
		c.t.Errorf("the volumes are %v", spec.Volumes)
	}
}

// wantHistory looks at how it came to that.
func (c *cluster) wantHistory(rows []row, r *recorder) {
	c.t.Helper()
	byKey := map[string]row{"Deployment " + platform + "/doomed": {}}
	for _, row := range rows {
		byKey[keyOf(row.object)] = row
	}
	all, most := r.history(func(key string) bool { return byKey[key].stuck })
	// Those that are stuck hold a place until they are left, for how long depends on
	// the machine: with them there must have been three, without them no more.
	_, withStuck := r.history(func(string) bool { return false })
	if most < 2 || most > 3 || withStuck < 3 {
		c.t.Errorf("%d rollouts were under way at once, %d with those that are stuck, want three", most, withStuck)
	}
	deckhouse := all["Deployment "+v1alpha1.Namespace+"/deckhouse"]
	var others uint64
	for key, ro := range all {
		if !strings.HasPrefix(key, "DaemonSet") && !byKey[key].stuck {
			others = max(others, ro.ended)
		}
	}
	for key, ro := range all {
		row, known := byKey[key]
		switch {
		case !known:
			c.t.Errorf("%s was re-pointed", key)
		case ro != deckhouse && ro.began < deckhouse.ended:
			c.t.Errorf("%s began at %d, and Deckhouse was not there before %d", key, ro.began, deckhouse.ended)
		case strings.HasPrefix(key, "DaemonSet") && ro.began < others:
			c.t.Errorf("%s began at %d, before all others were there at %d", key, ro.began, others)
		case row.steady && ro.lowest < ro.before:
			c.t.Errorf("%s had %d available Pods at least, %d before", key, ro.lowest, ro.before)
		}
		c.t.Logf("%6d %6d %s: %d available before, %d at least", ro.began, ro.ended, key, ro.before, ro.lowest)
	}
	c.wantChanges(byKey, all, r)
}

// wantEvents: each workload that was left, and the one that did not come up, is
// told about once.
func (c *cluster) wantEvents(rows []row) {
	c.t.Helper()
	want := map[string]int{"RegistryRolloutStuck db": 1, "RegistryNotRepointed held": 1}
	for _, r := range rows {
		if r.left != "" {
			want["RegistryNotRepointed "+r.object.GetName()] = 1
		}
	}
	got := map[string]int{}
	c.Eventually("everything is told by Events", func() bool {
		var list eventsv1.EventList
		if err := c.List(c.t.Context(), &list); err != nil {
			c.t.Fatal(err)
		}
		clear(got)
		for i := range list.Items {
			if e := &list.Items[i]; e.Reason == "RegistryNotRepointed" || e.Reason == "RegistryRolloutStuck" {
				got[e.Reason+" "+e.Regarding.Name]++
			}
		}
		return len(got) >= len(want)-1
	})
	delete(want, "RegistryNotRepointed held") // its namespace takes no Events
	delete(got, "RegistryNotRepointed held")
	for what, n := range want {
		if got[what] != n {
			c.t.Errorf("Event %s: %d times, want %d", what, got[what], n)
		}
	}
	if len(got) != len(want) {
		c.t.Errorf("Events %v", got)
	}
}
