package machine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Kubectl runs kubectl as cluster admin, with an optional document on its
// standard input, and returns what it printed. The error holds what it said.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.options.Binaries.Path("kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.API.Kubeconfig, "HOME="+c.Run.Dir)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// CreateNodes makes the Node objects, as kubelets would when they start.
func (c *Cluster) CreateNodes(ctx context.Context, cl client.Client) error {
	for _, n := range c.Nodes {
		if err := c.CreateNode(ctx, cl, n); err != nil {
			return err
		}
	}
	return nil
}

// CreateNode makes the object of one node.
func (c *Cluster) CreateNode(ctx context.Context, cl client.Client, n *Node) error {
	version, err := n.ContainerdVersion(ctx)
	if err != nil {
		return err
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("boot id: %w", err)
	}
	group, roles := "worker", map[string]string{}
	if n.ControlPlane {
		group, roles = "master", map[string]string{"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/master": ""}
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: map[string]string{
		"kubernetes.io/os": "linux", "kubernetes.io/hostname": n.Name, "node.deckhouse.io/group": group,
	}}}
	for role := range roles {
		node.Labels[role] = ""
	}
	if err := cl.Create(ctx, node); err != nil {
		return fmt.Errorf("create Node %s: %w", n.Name, err)
	}
	now := metav1.Now()
	status := corev1.NodeStatus{
		NodeInfo: corev1.NodeSystemInfo{
			BootID: strings.TrimSpace(string(bootID)), MachineID: n.Name, OperatingSystem: "linux", Architecture: architecture,
			ContainerRuntimeVersion: "containerd://" + strings.TrimPrefix(version, "v"), KubeletVersion: "v1.35.4", OSImage: "demo",
		},
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.Space.IP.String()}, {Type: corev1.NodeHostName, Address: n.Name}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Demo", LastHeartbeatTime: now, LastTransitionTime: now}},
	}
	// Of a node that joins later others write too: its readiness, and the product's taint.
	if err := changed(ctx, cl, node, func() error { node.Status = status; return cl.Status().Update(ctx, node) }); err != nil {
		return fmt.Errorf("status of Node %s: %w", n.Name, err)
	}
	// Admission adds a taint that the node lifecycle controller would remove.
	notReady := func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady }
	if err := changed(ctx, cl, node, func() error {
		node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, notReady)
		return cl.Update(ctx, node)
	}); err != nil {
		return fmt.Errorf("taints of Node %s: %w", n.Name, err)
	}
	return nil
}

// changed writes a Node as it is now, again when somebody else wrote it meanwhile.
func changed(ctx context.Context, cl client.Client, node *corev1.Node, write func() error) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := cl.Get(ctx, client.ObjectKeyFromObject(node), node); err != nil {
			return err
		}
		return write()
	})
}
