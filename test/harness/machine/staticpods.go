package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/test/harness/kubelet"
)

// StaticPods play a kubelet for the static pods of a node: what stands in its folder of
// manifests runs as a real process in the node's namespaces, as the user that the manifest
// says. Of a change the old process ends first. One container is enough for a pod.
type StaticPods struct {
	Run   *Run
	Space *Space
	Log   *slog.Logger
	// Pull has an image on the node, as the node's own containerd pulls it.
	Pull func(ctx context.Context, image string) error
	// Tell says how a pod fares; nil: it is gone.
	Tell func(ctx context.Context, pod *corev1.Pod, f *kubelet.Fate)

	mu      sync.Mutex
	running map[string]*Process // by the pod's name
	off     bool
}

// Kill ends the process of a pod as a crash would. The kubelet starts it again.
func (k *StaticPods) Kill(pod string) error {
	k.mu.Lock()
	process := k.running[pod]
	k.mu.Unlock()
	if process == nil {
		return fmt.Errorf("no process of %s runs on %s", pod, k.Space.Name)
	}
	process.Kill()
	return nil
}

// Off kills all processes as a crash would, and none is started again before it is
// called with false.
func (k *StaticPods) Off(off bool) {
	k.mu.Lock()
	k.off = off
	running := slices.Collect(maps.Values(k.running))
	k.mu.Unlock()
	for _, process := range running {
		if off && process != nil {
			process.Kill()
		}
	}
}

func (k *StaticPods) isOff() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.off
}

func (k *StaticPods) note(pod string, p *Process) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running == nil {
		k.running = map[string]*Process{}
	}
	k.running[pod] = p
}

// staticPod is one manifest and what became of it.
type staticPod struct {
	text   string
	cancel context.CancelFunc
	done   chan struct{}
}

// Play plays until ctx ends; what runs is stopped then.
func (k *StaticPods) Play(ctx context.Context) {
	pods := map[string]*staticPod{}
	defer func() {
		for _, p := range pods {
			<-p.done
		}
	}()
	for {
		found, err := k.manifests()
		if err != nil {
			k.Log.Warn("static pods", "node", k.Space.Name, "err", err)
		}
		for name, p := range pods {
			if err == nil && found[name] != p.text {
				p.cancel()
			}
			select {
			case <-p.done:
				delete(pods, name)
			default:
			}
		}
		for name, text := range found {
			if pods[name] == nil {
				pods[name] = k.start(ctx, text)
			}
		}
		if pause(ctx, pollEvery) != nil {
			return
		}
	}
}

// inside is a path of the node as this program reaches it.
func (k *StaticPods) inside(name string) string {
	return filepath.Join("/proc", strconv.Itoa(k.Space.PID()), "root", name)
}

// manifests are the files of the folder by name. A kubelet reads all but those that begin
// with a dot.
func (k *StaticPods) manifests() (map[string]string, error) {
	entries, err := os.ReadDir(k.inside(StaticPodFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	found := map[string]string{}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		text, err := os.ReadFile(k.inside(path.Join(StaticPodFolder, e.Name())))
		switch {
		case errors.Is(err, fs.ErrNotExist): // since then
		case err != nil:
			return nil, fmt.Errorf("read manifests: %w", err)
		default:
			found[e.Name()] = string(text)
		}
	}
	return found, nil
}

func (k *StaticPods) start(ctx context.Context, text string) *staticPod {
	ctx, cancel := context.WithCancel(ctx)
	p := &staticPod{text: text, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		var pod corev1.Pod
		err := yaml.UnmarshalStrict([]byte(text), &pod)
		if err == nil && (len(pod.Spec.Containers) != 1 || len(pod.Spec.Containers[0].Command) != 1) {
			err = errors.New("a static pod here has one container with one word as its command")
		}
		if err != nil {
			k.Log.Warn("no static pod", "node", k.Space.Name, "err", err)
			<-ctx.Done() // until there is another one
			return
		}
		k.life(ctx, &pod)
	}()
	return p
}

// life runs a pod until ctx ends, again and again.
func (k *StaticPods) life(ctx context.Context, pod *corev1.Pod) {
	defer k.Tell(context.WithoutCancel(ctx), pod, nil)
	for ctx.Err() == nil {
		if k.isOff() {
			_ = pause(ctx, pollEvery) // the condition above looks at ctx
			continue
		}
		waits := kubelet.Fate{Waiting: kubelet.ErrImagePull}
		err := k.Pull(ctx, pod.Spec.Containers[0].Image)
		if err == nil {
			waits.Waiting = kubelet.CrashLoopBackOff
			err = k.once(ctx, pod)
		}
		if ctx.Err() != nil {
			return
		}
		waits.Message = fmt.Sprint(err)
		k.Log.Warn("a static pod does not run", "node", k.Space.Name, "pod", pod.Name, "err", err)
		k.Tell(ctx, pod, &waits)
		_ = pause(ctx, pullAgain) // the end of ctx ends the loop
	}
}

// once runs the process of a pod until it ends, is not alive, or ctx ends. That it ended by
// itself is an error.
func (k *StaticPods) once(ctx context.Context, pod *corev1.Pod) error {
	for _, v := range pod.Spec.Volumes {
		if info, err := os.Stat(k.inside(v.HostPath.Path)); err != nil || !info.IsDir() {
			return fmt.Errorf("%s is no folder of the node", v.HostPath.Path)
		}
	}
	process, err := k.Run.StartProcess(k.command(pod))
	if err != nil {
		return err
	}
	k.note(pod.Name, process)
	defer k.note(pod.Name, nil)
	c := pod.Spec.Containers[0]
	alive, ready := prober{Probe: c.LivenessProbe, good: true}, prober{Probe: c.ReadinessProbe}
	told := false
	for process.Running() && ctx.Err() == nil {
		alive.look(ctx, k.Space)
		ready.look(ctx, k.Space)
		if !alive.good {
			break
		}
		if ready.good != told && ctx.Err() == nil {
			told = ready.good
			fate := kubelet.Fate{IP: k.Space.IP.String()}
			if !told {
				fate.Waiting = "NotReady"
			}
			k.Tell(ctx, pod, &fate)
		}
		_ = pause(ctx, pollEvery) // the condition above looks at ctx
	}
	grace := time.Duration(graceSeconds)
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s)
	}
	if err := process.Stop(grace * time.Second); err != nil {
		return err
	}
	return errors.Join(fmt.Errorf("%s ended by itself, or was not alive", process.Name), process.tail())
}

// command is the process of a pod. The product's programs are where nodes have them.
func (k *StaticPods) command(pod *corev1.Pod) Command {
	c := pod.Spec.Containers[0]
	args := []string{"--pdeathsig=KILL"} // it is lost with another user
	if s := c.SecurityContext; s != nil && s.RunAsUser != nil && s.RunAsGroup != nil {
		args = append(args, fmt.Sprintf("--reuid=%d", *s.RunAsUser), fmt.Sprintf("--regid=%d", *s.RunAsGroup), "--clear-groups", "--no-new-privs")
	}
	args = append(args, "--", path.Join(nodeOurs, c.Command[0]))
	for _, arg := range c.Args {
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "status.hostIP" {
				arg = strings.ReplaceAll(arg, "$("+e.Name+")", k.Space.IP.String())
			}
		}
		args = append(args, arg)
	}
	return Command{
		Name: "static-" + pod.Name + "-" + k.Space.Name, Space: k.Space, Path: "setpriv", Args: args,
		// Only what a layout says is trusted, not what the node's system trusts.
		Env: []string{"SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/dev/null"},
	}
}

// prober is what a kubelet thinks by its probe.
type prober struct {
	*corev1.Probe
	good   bool
	failed int
	next   time.Time
}

// look asks when it is time. Who never was ready is asked each second: people watch.
func (p *prober) look(ctx context.Context, from *Space) {
	if p.Probe == nil {
		p.good = true
		return
	}
	if time.Now().Before(p.next) {
		return
	}
	every := time.Duration(max(p.PeriodSeconds, 1)) * time.Second
	if p.ask(ctx, from) == nil {
		p.good, p.failed = true, 0
	} else if p.failed++; p.failed >= int(max(p.FailureThreshold, 1)) {
		p.good = false
	}
	if !p.good {
		every = time.Second
	}
	p.next = time.Now().Add(every)
}

func (p *prober) ask(ctx context.Context, from *Space) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(p.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	get := p.HTTPGet
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%s%s", get.Host, get.Port.String(), get.Path), nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true, DialContext: from.DialContext}).RoundTrip(req)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		err = errors.New(resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}
