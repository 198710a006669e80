package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/machine"
)

// TestNodes starts two machines and does with them what the module's pods and
// people do with nodes.
func TestNodes(t *testing.T) {
	r, b, log := newRun(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := Start(ctx, r, Options{Binaries: b, Source: source(), Nodes: []NodeOptions{{Name: "w1", Containerd: "1.7"}, {Name: "w2"}}}, log)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if err := c.createTools(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	for _, check := range []struct {
		what string
		do   func(context.Context, *Node) error
	}{
		{"a host of its own", c.checkHost},
		{"logs and exec", c.checkLogs},
		{"static pod", c.checkStatic},
		{"network of pods", c.checkNetwork},
		{"the way of the agent to the host", c.checkHostPID},
		{"containerd restarts, pods stay", c.checkRestart},
		{"kubelet restarts", c.checkKubelet},
		{"power cut", c.checkPowerCut},
		{"new image", c.checkReimage},
	} {
		for _, n := range c.Nodes {
			started := time.Now()
			if err := check.do(ctx, n); err != nil {
				t.Errorf("%s of %s: %v", check.what, n.Name, err)
			}
			t.Logf("%5.1f s  %s: %s", time.Since(started).Seconds(), n.Name, check.what)
		}
	}
}

// createTools runs pods that see the programs of the node: one as any pod, one
// as the agent's.
func (c *Cluster) createTools(ctx context.Context, n *Node) error {
	for _, name := range []string{"plain", "agent"} {
		pod := toolsPod(name+"-"+n.Name, n.Name)
		if name == "agent" {
			yes := true
			pod.Spec.HostPID, pod.Spec.HostNetwork = true, true
			pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
		}
		if err := c.Client.Create(ctx, pod); err != nil {
			return err
		}
	}
	for _, name := range []string{"plain", "agent"} {
		if _, err := c.running(ctx, name+"-"+n.Name); err != nil {
			return err
		}
	}
	return nil
}

func toolsPod(name, node string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
		NodeName: node, TerminationGracePeriodSeconds: new(int64),
		Containers: []corev1.Container{{
			Name: "main", Image: SandboxImage, ImagePullPolicy: corev1.PullNever,
			Command: []string{"/bin/sh", "-c", "echo hello from " + name + "; exec sleep infinity"},
		}},
	}}
	for i, dir := range []string{"/usr", "/bin", "/lib", "/lib64"} {
		volume := fmt.Sprintf("tools-%d", i)
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}}})
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: dir, ReadOnly: true})
	}
	return pod
}

// running waits for a pod to run.
func (c *Cluster) running(ctx context.Context, name string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := waitUntil(ctx, "pod "+name, func(ctx context.Context) error {
		if err := c.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, pod); err != nil {
			return err
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%s: %v", pod.Status.Phase, pod.Status.ContainerStatuses)
	})
	return pod, err
}

func (c *Cluster) exec(ctx context.Context, pod, script string) (string, error) {
	out, err := c.Kubectl(ctx, "", "exec", pod, "--", "/bin/bash", "-c", script)
	return strings.TrimSpace(out), err
}

func want(got, want string) error {
	if got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

func (c *Cluster) checkHost(ctx context.Context, n *Node) error {
	out, err := n.Run(ctx, "", "sh", "-c", "hostname; cat /etc/hostname; cat /proc/1/comm; cat /proc/sys/vm/panic_on_oom; ctr version >/dev/null && echo ctr; tree --version >/dev/null && echo tree")
	if err != nil {
		return err
	}
	return want(out, n.Name+"\n"+n.Name+"\nsh\n0\nctr\ntree\n")
}

func (c *Cluster) checkLogs(ctx context.Context, n *Node) error {
	out, err := c.Kubectl(ctx, "", "logs", "plain-"+n.Name)
	if err != nil {
		return err
	}
	if err := want(out, "hello from plain-"+n.Name+"\n"); err != nil {
		return err
	}
	// Not the node's processes, and not as many control groups.
	out, err = c.exec(ctx, "plain-"+n.Name, "cat /proc/1/comm; hostname")
	return errors.Join(err, want(out, "sleep\nplain-"+n.Name))
}

func (c *Cluster) checkStatic(ctx context.Context, n *Node) error {
	manifest := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static", "namespace": "default"}, "spec": {"hostNetwork": true,
"containers": [{"name": "main", "image": "` + SandboxImage + `", "imagePullPolicy": "Never"}]}}`
	if _, err := n.Run(ctx, manifest, "sh", "-c", "cat >"+ManifestDir+"/static.json"); err != nil {
		return err
	}
	_, err := c.running(ctx, "static-"+n.Name)
	return err
}

func (c *Cluster) checkNetwork(ctx context.Context, n *Node) error {
	dial := func(address, port string) string {
		return fmt.Sprintf("timeout 5 bash -c 'exec 3<>/dev/tcp/%s/%s' && echo reached %[1]s:%[2]s\n", address, port)
	}
	var dns corev1.PodList
	if err := c.Client.List(ctx, &dns, client.InNamespace("kube-system"), client.MatchingLabels{"k8s-app": "kube-dns"}); err != nil {
		return err
	}
	script := dial("10.112.0.1", "443") + dial(ClusterDNS, "53")
	for _, pod := range dns.Items {
		script += dial(pod.Status.PodIP, "53") // one on each node
	}
	for _, g := range c.Registries {
		_, port, found := strings.Cut(g.Host, ":")
		if !found {
			port = "443"
		}
		script += dial(g.Space.IP.String(), port)
	}
	tries := strings.Count(script, "\n")
	for _, pod := range []string{"plain-", "agent-"} {
		out, err := c.exec(ctx, pod+n.Name, script)
		if err != nil || strings.Count(out, "reached") != tries {
			return fmt.Errorf("%s%s reached of %d: %s (%w)", pod, n.Name, tries, out, err)
		}
	}
	out, err := c.exec(ctx, "plain-"+n.Name, "getent hosts kubernetes.default.svc.cluster.local; cat /etc/resolv.conf")
	if err != nil || !strings.Contains(out, "10.112.0.1 ") {
		return fmt.Errorf("names in plain-%s: %s (%w)", n.Name, out, err)
	}
	return nil
}

// onHost is how the agent runs a program of the host.
const onHost = "chroot /proc/1/root nsenter -t 1 -m -u -i -n -p -- "

func (c *Cluster) checkHostPID(ctx context.Context, n *Node) error {
	out, err := c.exec(ctx, "agent-"+n.Name, "cat /proc/1/root/etc/hostname; cat /proc/1/comm; "+onHost+"hostname; cat /proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	var node corev1.Node
	if err := c.Client.Get(ctx, client.ObjectKey{Name: n.Name}, &node); err != nil {
		return err
	}
	return want(out, n.Name+"\nsh\n"+n.Name+"\n"+node.Status.NodeInfo.BootID)
}

func (c *Cluster) checkRestart(ctx context.Context, n *Node) error {
	before, err := c.running(ctx, "plain-"+n.Name)
	if err != nil {
		return err
	}
	process, err := n.Service("containerd")
	if err != nil {
		return err
	}
	// The way of exec leads through containerd: it ends when that does.
	const result = "/run/restarted"
	if _, err := c.exec(ctx, "agent-"+n.Name, "("+onHost+machine.RestartCommand+"; echo $? >/proc/1/root"+result+") >/dev/null 2>&1 &"); err != nil {
		return err
	}
	if err := waitUntil(ctx, "restart command", func(ctx context.Context) error {
		out, err := n.Run(ctx, "", "cat", result)
		return errors.Join(err, want(out, "0\n"))
	}); err != nil {
		return err
	}
	again, err := n.Service("containerd")
	if err != nil || again.Starts != process.Starts+1 || again.PID == process.PID {
		return fmt.Errorf("containerd was %+v and is %+v (%w)", process, again, err)
	}
	if err := n.Answers(ctx); err != nil {
		return err
	}
	if err := waitUntil(ctx, "connection of the kubelet", func(ctx context.Context) error {
		out, err := c.exec(ctx, "plain-"+n.Name, "cat /proc/1/comm")
		return errors.Join(err, want(out, "sleep"))
	}); err != nil {
		return err
	}
	after, err := c.running(ctx, "plain-"+n.Name)
	if err != nil {
		return err
	}
	return want(after.Status.ContainerStatuses[0].ContainerID, before.Status.ContainerStatuses[0].ContainerID)
}

func (c *Cluster) checkKubelet(ctx context.Context, n *Node) error {
	process, err := n.Service("kubelet")
	if err != nil {
		return err
	}
	if _, err := n.Run(ctx, "", "kill", "-KILL", fmt.Sprint(process.PID)); err != nil {
		return err
	}
	return waitUntil(ctx, "kubelet", func(ctx context.Context) error {
		if n.KubeletStarts() != process.Starts+1 {
			return errors.New("it was not started again")
		}
		_, err := c.exec(ctx, "plain-"+n.Name, "true")
		return err
	})
}

func (c *Cluster) checkReimage(ctx context.Context, n *Node) error {
	fresh, err := n.Snapshot()
	if err != nil {
		return err
	}
	before, err := c.running(ctx, "plain-"+n.Name)
	if err != nil {
		return err
	}
	if _, err := n.Run(ctx, "", "touch", "/etc/containerd/mine", "/var/lib/mine"); err != nil {
		return err
	}
	if err := n.Reimage(ctx); err != nil {
		return err
	}
	if _, err := n.Run(ctx, "", "test", "!", "-e", "/var/lib/mine"); err != nil {
		return err
	}
	after, err := n.Snapshot()
	if err != nil {
		return err
	}
	if _, there := after["/etc/containerd/mine"]; there || after["/etc/containerd/config.toml"] != fresh["/etc/containerd/config.toml"] {
		return fmt.Errorf("files of the old machine: %v", after)
	}
	return c.ranAgain(ctx, before)
}

// ranAgain waits until a pod's container is a new one, and works.
func (c *Cluster) ranAgain(ctx context.Context, before *corev1.Pod) error {
	return waitUntil(ctx, "containers of the machine that was off", func(ctx context.Context) error {
		pod, err := c.running(ctx, before.Name)
		if err != nil {
			return err
		}
		if pod.Status.ContainerStatuses[0].ContainerID == before.Status.ContainerStatuses[0].ContainerID {
			return errors.New("the kubelet has not looked yet")
		}
		out, err := c.exec(ctx, before.Name, "hostname")
		return errors.Join(err, want(out, before.Name))
	})
}

// checkPowerCut: pods run again on the same disk, and kube-proxy too.
func (c *Cluster) checkPowerCut(ctx context.Context, n *Node) error {
	before, err := c.running(ctx, "plain-"+n.Name)
	if err != nil {
		return err
	}
	if _, err := n.Run(ctx, "", "touch", "/var/lib/mine"); err != nil {
		return err
	}
	if err := n.Stop(ctx); err != nil {
		return err
	}
	if _, err := n.ContainerdVersion(ctx); err == nil {
		return errors.New("containerd answers although the machine is off")
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	if _, err := n.Run(ctx, "", "test", "-e", "/var/lib/mine"); err != nil {
		return err
	}
	if err := c.ranAgain(ctx, before); err != nil {
		return err
	}
	// CoreDNS and kube-proxy come back when they do.
	return waitUntil(ctx, "network of pods", func(ctx context.Context) error { return c.checkNetwork(ctx, n) })
}
