package machine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/kubelet"
)

const (
	// pullAgain is the pause after a failed pull of a pod's image.
	pullAgain = time.Second
	// graceSeconds is the usual terminationGracePeriodSeconds.
	graceSeconds = 30
	// mostCrashes of one pod's process are too many: the run fails.
	mostCrashes = 3
	// tokenSeconds is the life of a process's ServiceAccount token.
	tokenSeconds = 24 * 3600
)

// podRunner is the real half of pods: their images are pulled by their node's
// containerd, and the product's processes are started.
type podRunner struct {
	cluster  *Cluster
	client   client.Client
	recorder *Recorder
	log      *slog.Logger
	programs map[string]Program // by container command

	mu      sync.Mutex
	runs    map[types.UID]*podRun
	starts  map[string]int
	paused  map[string]bool // nodes whose agent is stopped
	broken  chan error      // processes that do not stay up
	closing bool            // everything is to end
}

type podRun struct {
	cancel context.CancelFunc
	done   chan struct{}
	ending bool // under the runner's lock
	mu     sync.Mutex
	space  *Space // of a pod with an address of its own
}

func newPodRunner(c *Cluster, cl client.Client, rec *Recorder, log *slog.Logger) *podRunner {
	return &podRunner{
		cluster: c, client: cl, recorder: rec, log: log, programs: c.options.Programs,
		runs: map[types.UID]*podRun{}, starts: map[string]int{}, paused: map[string]bool{},
		broken: make(chan error, 1),
	}
}

// sync starts pods that are new, and stops those that somebody else deleted.
func (r *podRunner) sync(ctx context.Context, pods []corev1.Pod) {
	exists := map[types.UID]bool{}
	for i := range pods {
		pod := pods[i].DeepCopy()
		exists[pod.UID] = true
		if pod.Spec.NodeName == "" || isMirror(pod) {
			continue
		}
		if pod.DeletionTimestamp != nil {
			r.finish(ctx, pod)
			continue
		}
		r.start(ctx, pod)
	}
	r.mu.Lock()
	var gone []*podRun
	for uid, run := range r.runs {
		if !exists[uid] {
			gone = append(gone, run)
			delete(r.runs, uid)
		}
	}
	r.mu.Unlock()
	for _, run := range gone {
		run.cancel()
		<-run.done
	}
}

func (r *podRunner) start(ctx context.Context, pod *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runs[pod.UID] != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	run := &podRun{cancel: cancel, done: make(chan struct{})}
	r.runs[pod.UID] = run
	go func() {
		defer close(run.done)
		if err := r.run(ctx, pod, run); err != nil && ctx.Err() == nil {
			r.log.Warn("pod", "pod", pod.Namespace+"/"+pod.Name, "err", err)
		}
	}()
}

// finish stops what a pod runs, then lets go of its object. Others go on
// meanwhile: a process may take its time to end.
func (r *podRunner) finish(ctx context.Context, pod *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.runs[pod.UID]
	if run != nil && run.ending {
		return
	}
	if run != nil {
		run.ending = true
		run.cancel()
	}
	go func() {
		if run != nil {
			<-run.done
		}
		if err := kubelet.Remove(ctx, r.client, pod); err != nil && ctx.Err() == nil {
			r.log.Warn("delete a pod", "pod", pod.Name, "err", err)
		}
	}()
}

// grace is how long a process may take to end: what a kubelet grants, but little
// when everything is to end.
func (r *podRunner) grace() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return stopAfter
	}
	return graceSeconds * time.Second
}

func (r *podRunner) stopAll() {
	r.mu.Lock()
	r.closing = true
	runs := slices.Collect(maps.Values(r.runs))
	r.mu.Unlock()
	for _, run := range runs {
		run.cancel()
	}
	for _, run := range runs {
		<-run.done
	}
}

// run is the life of a pod.
func (r *podRunner) run(ctx context.Context, pod *corev1.Pod, run *podRun) error {
	node, err := r.cluster.Node(pod.Spec.NodeName)
	if err != nil {
		return err
	}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if err := r.pull(ctx, node, pod, c.Image); err != nil {
			return err
		}
	}
	program, ours := r.program(pod)
	if !ours {
		if err := kubelet.Report(ctx, r.client, pod, kubelet.Fate{IP: node.Space.IP.String()}); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	return r.runProgram(ctx, pod, node, run, program)
}

// pull pulls an image as the kubelet does: again until it works, every time with
// the pull secrets as they are then.
func (r *podRunner) pull(ctx context.Context, node *Node, pod *corev1.Pod, image string) error {
	for {
		err := r.pullOnce(ctx, node, pod, image)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.recorder.Pod(node.Name, image, pod.Namespace+"/"+pod.Name, err)
		if err == nil {
			return nil
		}
		waits := kubelet.Fate{Waiting: kubelet.ErrImagePull, Message: err.Error()}
		if err := kubelet.Report(ctx, r.client, pod, waits); err != nil && ctx.Err() == nil {
			r.log.Warn("status of a pod", "pod", pod.Name, "err", err)
		}
		if err := pause(ctx, pullAgain); err != nil {
			return err
		}
	}
}

func (r *podRunner) pullOnce(ctx context.Context, node *Node, pod *corev1.Pod, image string) error {
	if node.came(image) {
		return nil
	}
	logins, err := Logins(ctx, r.client, pod.Namespace, secretNames(pod.Spec), image)
	if err != nil {
		return err
	}
	var errs []error
	for _, login := range logins {
		err := node.Pull(ctx, image, login)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// program finds the real process behind a pod of ours.
func (r *podRunner) program(pod *corev1.Pod) (Program, bool) {
	owner := pod.Labels[ownerLabel]
	p, ok := r.programs[owner]
	return p, ok
}

// runProgram runs the process of a pod until ctx ends; when it ends by itself
// it is started again, as a kubelet would.
func (r *podRunner) runProgram(ctx context.Context, pod *corev1.Pod, node *Node, run *podRun, program Program) error {
	space, folder, inside := node.Space, node.Space.Dir, ""
	if !program.OnNode {
		own, err := r.cluster.Network.NewSpace(ctx, pod.Name)
		if err != nil {
			return err
		}
		defer own.Close()
		run.mu.Lock()
		run.space = own
		run.mu.Unlock()
		space, folder, inside = own, own.Dir, own.Dir
	}
	kubeconfig := filepath.Join("run", "pods", pod.Name, "kubeconfig")
	if err := r.writeToken(ctx, pod, filepath.Join(folder, kubeconfig)); err != nil {
		return err
	}
	command := Command{
		Name: "pod-" + pod.Name, Space: space, Path: program.Path,
		Args: append(program.Args, "--kubeconfig="+filepath.Join("/", inside, kubeconfig)),
		Env: append([]string{
			"NODE_NAME=" + node.Name, "POD_NAME=" + pod.Name, "POD_NAMESPACE=" + pod.Namespace, "POD_UID=" + string(pod.UID), "POD_IP=" + space.IP.String(),
			// Only what a layout says is trusted, not what the node's system trusts.
			"SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/dev/null",
		}, program.Env...),
	}
	for crashes := 0; ctx.Err() == nil; {
		if err := r.waitUnpaused(ctx, node, program); err != nil {
			return nil // the pod is to end
		}
		if err := r.runOnce(ctx, pod, node, space, command, program); err != nil {
			return err
		}
		if ctx.Err() == nil && !r.isPaused(node, program) {
			r.log.Warn("a process ended by itself and is started again", "pod", pod.Name)
			if crashes++; crashes == mostCrashes {
				r.crashed(command)
			}
			_ = pause(ctx, pullAgain) // the end of ctx ends the loop
		}
	}
	return nil
}

// crashed tells of a process that does not stay up, with the end of its log.
func (r *podRunner) crashed(command Command) {
	p := Process{Name: command.Name, Log: r.cluster.Run.Path("logs", command.Name+".log")}
	select {
	case r.broken <- errors.Join(fmt.Errorf("%s ended %d times by itself", command.Name, mostCrashes), p.tail()):
	default: // one is enough
	}
}

// runOnce starts the process, reports the pod ready once it answers, and stops
// it when ctx ends or the node's agent is paused.
func (r *podRunner) runOnce(ctx context.Context, pod *corev1.Pod, node *Node, space *Space, command Command, program Program) error {
	process, err := r.cluster.Run.StartProcess(command)
	if err != nil {
		return err
	}
	if program.OnNode {
		r.mu.Lock()
		r.starts[node.Name]++
		r.mu.Unlock()
	}
	if program.Ready != nil {
		if err := waitUntil(ctx, command.Name, func(ctx context.Context) error {
			if !process.Running() || r.isPaused(node, program) {
				return nil
			}
			return program.Ready(ctx, space)
		}); err != nil {
			return process.Stop(r.grace())
		}
	}
	if err := kubelet.Report(ctx, r.client, pod, kubelet.Fate{IP: space.IP.String()}); err != nil && ctx.Err() == nil {
		r.log.Warn("status of a pod", "pod", pod.Name, "err", err)
	}
	for process.Running() && ctx.Err() == nil && !r.isPaused(node, program) {
		_ = pause(ctx, pollEvery) // the condition above looks at ctx
	}
	return process.Stop(r.grace())
}

// pause stops the processes of pods on a node, or lets them start again.
func (r *podRunner) pause(node string, paused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused[node] = paused
}

func (r *podRunner) isPaused(node *Node, program Program) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return program.OnNode && r.paused[node.Name]
}

func (r *podRunner) waitUnpaused(ctx context.Context, node *Node, program Program) error {
	for r.isPaused(node, program) {
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
	return nil
}

func (r *podRunner) startsByNode() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	starts := map[string]int{}
	for node, n := range r.starts {
		starts[node] = n
	}
	return starts
}

// space is where a pod of ours has its address.
func (r *podRunner) space(pod *corev1.Pod) *Space {
	if isMirror(pod) {
		node, err := r.cluster.Node(pod.Spec.NodeName)
		if err != nil {
			return nil
		}
		return node.Space
	}
	r.mu.Lock()
	run := r.runs[pod.UID]
	r.mu.Unlock()
	if run == nil {
		return nil
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.space
}
