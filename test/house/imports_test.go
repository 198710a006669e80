package house

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// sibling is the folder of internal/control that a package is in, or "".
func sibling(path string) string {
	rest, ok := strings.CutPrefix(path, "internal/control/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// dataPath is the order in which a pull meets the packages of the data path: each knows
// only those after it.
func dataPath() []string {
	return []string{
		"gateway", "store", "front", "proxy", "store/cache", "fetch", "routes", "answer", "transport",
		"store/images", "store/fill", "store/tags", "store/space", "store/blob", "store/disk", "oci", "judge", "regauth", "queue",
	}
}

// upwards reports whether a package of the data path knows one that a pull meets before it.
func upwards(from, to string) bool {
	const wing = "internal/datapath/"
	a := slices.Index(dataPath(), strings.TrimPrefix(from, wing))
	b := slices.Index(dataPath(), strings.TrimPrefix(to, wing))
	return b >= 0 && a > b
}

// store is the process of a store; below it is what is kept. Its cache is a part of the data
// path, and so is who asks other stores.
const store = "internal/datapath/store"

// forbidden says why a package may not import another, or "".
func forbidden(from, to string) string {
	a, b := sibling(from), sibling(to)
	switch {
	case within(to, "test") && !forTests(from):
		return "the harness is for tests and the demo"
	case within(from, "api") && within(to, "internal"):
		return "the API is what others import; it imports nothing of ours"
	case within(from, "internal/pod") && within(to, "internal") && to != "internal/memory" && to != "internal/upstream":
		return "what a pod is made of is known below who makes it"
	case within(from, "internal/node") && within(to, "internal/control"), within(from, "internal/control") && within(to, "internal/node"):
		return "the control side and the node meet in layout and api"
	case within(from, "internal/datapath") && (within(to, "internal/control") || within(to, "internal/node")):
		return "the data path routes by layouts and nothing else"
	case upwards(from, to):
		return "the data path reads downwards"
	case (to == store || to == "internal/datapath/gateway") && within(from, "internal"):
		return "a process is no part of another"
	case within(from, store) && from != store && to == store+"/peer", from == store+"/peer" && within(to, store) && to != store+"/owner":
		return "what is kept here and who else has it are two things"
	case within(from, store) && from != store && from != store+"/cache" && from != store+"/peer" && within(to, "internal") && !within(to, store) && to != "internal/datapath/oci":
		return "what is on disk knows nothing of registries"
	case a == "" || b == "" || a == b || a == "controller":
		return ""
	case a == "cluster" && b != "excerpt", a == "excerpt", a == "switchover":
		return a + " knows nothing else of control"
	case !slices.Contains([]string{"excerpt", "cluster", "state", "switchover"}, b):
		return "siblings do not know each other; the controller joins what they say"
	}
	return ""
}

func TestImports(t *testing.T) {
	t.Parallel()
	for from, p := range packages(t) {
		for _, to := range p.Imports {
			if why := forbidden(from, to); why != "" {
				t.Errorf("%s imports %s: %s", from, to, why)
			}
		}
	}
}

// TestAStoreKnowsNoAPIServer: it reads files, and has no rights in the cluster.
func TestAStoreKnowsNoAPIServer(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/registry-store")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, path := range strings.Fields(string(out)) {
		if strings.HasPrefix(path, "k8s.io/client-go") || strings.HasPrefix(path, "sigs.k8s.io/controller-runtime") {
			t.Errorf("registry-store has %s in it", path)
		}
	}
}

// TestForbidden shows that each rule refuses something.
func TestForbidden(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{store + "/peer", store + "/owner", false},
		{store + "/peer", "internal/datapath/fetch", false},
		{store + "/peer", store + "/cache", true},
		{store + "/fill", store + "/peer", true},
		{store + "/cache", store + "/peer", true},
		{"internal/control/platform", "internal/control/cluster", false},
		{"internal/control/platform", "internal/control/state", false},
		{"internal/control/platform", "internal/control/switchover", false},
		{"internal/control/platform", "internal/control/component", true},
		{"internal/control/platform", "internal/control/controller", true},
		{"internal/control/platform/deeper", "internal/control/component/deeper", true},
		{"internal/control/controller", "internal/control/component", false},
		{"internal/control/state", "internal/control/cluster", false},
		{"internal/control/state", "internal/control/platform", true},
		{"internal/control/cluster", "internal/control/state", true},
		{"internal/control/cluster", "internal/control/excerpt", false},
		{"internal/control/excerpt", "internal/control/cluster", true},
		{"internal/control/platform", "internal/control/excerpt", false},
		{"internal/control/switchover", "internal/control/cluster", true},
		{"internal/control/cluster", "internal/layout", false},
		{"internal/control/nodes", "internal/node/handoff", true},
		{"internal/control/precheck", "internal/datapath/regauth", false},
		{"internal/node/serve", "internal/control/cluster", true},
		{"internal/node/serve", "internal/datapath/proxy", false},
		{"internal/datapath/proxy", "internal/node/handoff", true},
		{"internal/control/component", "internal/pod", false},
		{"internal/node/nodeservices", "internal/pod", false},
		{"internal/pod", "internal/memory", false},
		{"internal/pod", "internal/control/cluster", true},
		{"internal/datapath/gateway", "internal/control/state", true},
		{"internal/datapath/gateway", "internal/datapath/front", false},
		{"internal/datapath/proxy", "internal/datapath/front", true},
		{"internal/datapath/proxy", "internal/datapath/fetch", false},
		{"internal/datapath/fetch", "internal/datapath/proxy", true},
		{"internal/datapath/transport", "internal/datapath/routes", true},
		{"internal/datapath/transport", "internal/datapath/judge", false},
		{"internal/datapath/regauth", "internal/datapath/transport", true},
		{"internal/datapath/store/cache", "internal/datapath/fetch", false},
		{"internal/datapath/fetch", "internal/datapath/store/cache", true},
		{"internal/datapath/store", "internal/datapath/store/cache", false},
		{"internal/datapath/store", "internal/datapath/front", false},
		{"internal/datapath/store", "internal/datapath/gateway", true},
		{"internal/datapath/front", "internal/datapath/store", true},
		{"internal/node/agent", "internal/datapath/store", true},
		{"internal/datapath/store/fill", "internal/datapath/store/blob", false},
		{"internal/datapath/store/blob", "internal/datapath/store/fill", true},
		{"internal/datapath/store/blob", "internal/datapath/oci", false},
		{"internal/datapath/store/fill", "internal/datapath/regauth", true},
		{"internal/layout", "test/harness/cert", true},
		{"cmd/registry-agent", "test/harness/cert", true},
		{"test/rollout", "test/harness/cert", false},
		{"demo", "test/harness/machine", false},
		{"api/registry/v1alpha1", "internal/layout", true},
	} {
		if why := forbidden(c.from, c.to); (why != "") != c.want {
			t.Errorf("%s imports %s: %q", c.from, c.to, why)
		}
	}
}
