package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/d8-registry/registry/test/harness/machine"
)

const (
	registryA = "registry-a.example.test"
	pathA     = "deckhouse/ee"
	registryB = "registry-b.example.test:5000"
	pathB     = "mirror/dh"
	fixedName = "registry.d8-system.svc:5001/system/deckhouse"

	// setUpWithin is how long everything may take to come up.
	setUpWithin = 2 * time.Minute
)

// demo is a running cluster and what is watched in it.
type demo struct {
	options  options
	out      *screen
	cluster  *machine.Cluster
	client   client.Client
	view     *machine.View
	recorder *machine.Recorder
	puller   *machine.Puller
	standins *machine.Standins
	phases   []*phase
	failed   chan error // of what runs in the background
	cancel   context.CancelFunc
	waits    []chan struct{}
}

// settings of the controller that the demo shortens, for a person watches.
func settings() []string {
	return []string{"--not-ready-for=5s", "--proxy-idle=5s", "--proxy-idle-max=30s", "--recheck-names=10s"}
}

func setUp(ctx context.Context, r *machine.Run, b machine.Binaries, o options, out *screen) (*demo, error) {
	background, stop := context.WithCancel(ctx)
	d := &demo{options: o, out: out, recorder: machine.NewRecorder("set-up"), failed: make(chan error, 2), cancel: stop}
	out.title("Setting up run %s (about half a minute)", r.ID)
	ours := ""
	if o.story != "baseline" {
		var err error
		if ours, err = d.findPrograms(ctx); err != nil {
			return d, err
		}
	}
	names, _, err := imageNames()
	if err != nil {
		return d, err
	}
	started, cancel := context.WithTimeout(ctx, setUpWithin)
	defer cancel()
	options := machine.Options{
		Binaries: b, Ours: ours, Images: names, Tags: map[string]string{deckhouseImage: deckhouseTag},
		Registries: []machine.RegistryOptions{
			{Host: registryA, Path: pathA, Users: map[string]string{"puller": "installed-with", "license-token": "demo-licence-key"}},
			{Host: registryB, Path: pathB, Bearer: true, Users: map[string]string{"mirror-puller": "of-the-mirror"}},
		},
		ControlPlane: []string{"master-0"}, Workers: []string{"worker-0", "worker-1"},
		Setups: setups(o.story), WebServers: []string{webServer},
	}
	if len(options.Setups) > len(options.Workers) {
		options.Workers = append(options.Workers, "worker-2")
	}
	o.shape(&options)
	options.Programs = d.programs(ours)
	if err := d.startCluster(started, background, r, options); err != nil {
		return d, err
	}
	if err := d.install(started); err != nil {
		return d, err
	}
	d.background(background, d.puller.Run)
	return d, nil
}

// startCluster starts the real parts and the stand-ins.
func (d *demo) startCluster(ctx, background context.Context, r *machine.Run, o machine.Options) error {
	log := slog.New(slog.NewTextHandler(openLog(r), nil))
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	begin := time.Now()
	cluster, err := machine.Start(background, r, o, log)
	if err != nil {
		return err
	}
	d.cluster = cluster
	d.out.step(begin, "✓", green, "etcd and kube-apiserver; %s (Basic) and %s (Bearer), distribution v3 with TLS, %d images each", registryA, registryB, len(o.Images))
	for _, n := range cluster.Nodes {
		version, err := n.ContainerdVersion(ctx)
		if err != nil {
			return err
		}
		d.out.step(begin, "✓", green, "node %s: containerd %s in network and mount namespaces of its own", n.Name, version)
	}
	if d.client, err = client.New(cluster.API.Admin, client.Options{Scheme: scheme.Scheme}); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if err := cluster.CreateNodes(ctx, d.client); err != nil {
		return err
	}
	if d.view, err = machine.NewView(background, cluster.API.Admin); err != nil {
		return err
	}
	d.standins = machine.NewStandins(cluster, d.client, d.view, d.recorder, log)
	d.puller = machine.NewPuller(cluster.CRIs(), d.client, d.view, d.recorder, d.bases(), d.spareImages())
	d.background(background, d.standins.Run)
	d.out.line("           %s", machine.StandinsNote)
	return nil
}

// install is what an installation and the module's chart would do.
func (d *demo) install(ctx context.Context) error {
	begin := time.Now()
	if err := d.applyProduct(ctx); err != nil {
		return err
	}
	for _, file := range []string{"installation.yaml", "images.yaml", "workloads.yaml"} {
		if err := d.apply(ctx, file); err != nil {
			return err
		}
	}
	if err := d.waitWorkloads(ctx); err != nil {
		return err
	}
	d.out.step(begin, "✓", green, "the platform runs: its images were pulled from %s/%s", registryA, pathA)
	if d.options.story == "baseline" {
		return nil
	}
	if err := d.apply(ctx, "controller.yaml"); err != nil {
		return err
	}
	d.out.line("           shortened for the demo: registry-controller %v", settings())
	if d.options.broken != "" {
		what := cmp.Or(proxyControls()[d.options.broken], "the controller runs a protocol with a hole in it; pulls must fail")
		d.out.line("           %s", d.out.paint(red, "BREAK="+d.options.broken+": "+what))
	}
	return nil
}

// findPrograms is the folder of the product's programs, and with BREAK also of
// the program that can lose pulls: none that ships can.
func (d *demo) findPrograms(ctx context.Context) (string, error) {
	dir, err := d.builtPrograms(ctx)
	program := ""
	switch {
	case d.options.broken == noFallThrough:
		program = "registry-agent"
	case d.options.broken == lastByte:
		program = "registry-store"
	case d.protocol() != "":
		program = "registry-controller"
	}
	if err != nil || program == "" {
		return dir, err
	}
	return dir, d.build(ctx, filepath.Join(dir, brokenFolder), "./cmd/"+program, "-tags", "brokenprotocol")
}

// protocol is what the controller is told to run; empty: what ships.
func (d *demo) protocol() string {
	if proxyControls()[d.options.broken] != "" {
		return ""
	}
	return cmp.Or(d.options.broken, storyProtocol(d.options.story))
}

// builtPrograms is where this program is, or bin, built now.
func (d *demo) builtPrograms(ctx context.Context) (string, error) {
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(self)
		if _, err := os.Stat(filepath.Join(dir, "registry-controller")); err == nil {
			return dir, nil
		}
	}
	d.out.line("           building our programs (minutes with empty caches)")
	dir, err := filepath.Abs(filepath.Join(d.options.root, "bin"))
	if err != nil {
		return "", fmt.Errorf("folder of the programs: %w", err)
	}
	return dir, d.build(ctx, dir, "./cmd/...")
}

// brokenFolder is below the programs' own folder.
const brokenFolder = "broken"

// build compiles programs as make build does: other flags would compile
// everything anew.
func (d *demo) build(ctx context.Context, dir, packages string, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-o", dir + "/"}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, packages)...)
	cmd.Dir, cmd.Env = d.options.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// programs are the real processes behind pods.
func (d *demo) programs(ours string) map[string]machine.Program {
	controller := machine.Program{Path: filepath.Join(ours, "registry-controller")}
	controller.Args = append(settings(), "--image=@"+ownDigest())
	if d.options.story == "broken-restart" {
		controller.Args = append(controller.Args, "--restarts-at-once=1")
	}
	if d.options.story == proxyStoryName {
		controller.Args = append(controller.Args, storeSettings()...)
	}
	if protocol := d.protocol(); protocol != "" {
		controller.Path = filepath.Join(ours, brokenFolder, "registry-controller")
		controller.Args = append(controller.Args, "--protocol="+protocol)
	}
	// The node's own paths: its namespaces are the host of this agent.
	agent := machine.Program{
		Path: "/run/ours/registry-agent", OnNode: true,
		Args: []string{"all", "--host-root=/", "--restart-command=" + machine.RestartCommand, "--static-pods=" + machine.StaticPodFolder},
	}
	if d.options.broken == noFallThrough {
		agent.Path = "/run/ours/" + brokenFolder + "/registry-agent"
		agent.Args = append(agent.Args, "--protocol="+noFallThrough)
	}
	return map[string]machine.Program{
		"deployment.d8-system.registry-controller": controller,
		"daemonset.d8-system.registry-agent":       agent,
		"deployment.d8-system.registry-incluster-proxy": {
			Path: filepath.Join(ours, "registry-proxy"),
			Ready: func(ctx context.Context, s *machine.Space) error {
				return listens(ctx, s, net.JoinHostPort(s.IP.String(), "5001"))
			},
		},
	}
}

// listens reports whether a TLS server answers.
func listens(ctx context.Context, s *machine.Space, address string) error {
	conn, err := s.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // G402: only whether it answers
	return errors.Join(client.HandshakeContext(ctx), client.Close())
}

func ownDigest() string {
	_, digests, err := imageNames()
	if err != nil {
		panic(err) // setUp read the same
	}
	return digests[ownImage]
}

// bases are all names that platform images may start with.
func (d *demo) bases() []string {
	return []string{registryA + "/" + pathA, registryB + "/" + pathB, fixedName}
}

// spareImages are those that no workload runs: the puller's.
func (d *demo) spareImages() []machine.Image {
	used := runningImages()
	var spare []machine.Image
	for _, image := range d.cluster.Platform.Images {
		if !used[image.Digest] && image.Name != deckhouseImage && !isExtra(image) {
			spare = append(spare, image)
		}
	}
	return spare
}

// background runs f until the demo stops; its error ends the story.
func (d *demo) background(ctx context.Context, f func(context.Context) error) {
	done := make(chan struct{})
	d.waits = append(d.waits, done)
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			d.failed <- err
		}
	}()
}

// stop ends what runs in the background.
func (d *demo) stop() {
	d.cancel()
	for _, done := range d.waits {
		<-done
	}
}

// waitWorkloads waits until every Deployment is available.
func (d *demo) waitWorkloads(ctx context.Context) error {
	return d.until(ctx, "the platform's workloads", func(ctx context.Context) error {
		var list appsv1.DeploymentList
		if err := d.client.List(ctx, &list); err != nil {
			return err
		}
		for _, item := range list.Items {
			if item.Status.ObservedGeneration < item.Generation || item.Status.AvailableReplicas < *item.Spec.Replicas {
				return fmt.Errorf("deployment %s/%s is not available", item.Namespace, item.Name)
			}
		}
		return nil
	})
}

func openLog(r *machine.Run) *os.File {
	f, err := os.OpenFile(r.Path("logs", "stand-ins.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return os.Stderr
	}
	return f
}
