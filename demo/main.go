package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/d8-registry/registry/test/harness/machine"
)

const (
	exitBroken  = 1 // a promise did not hold, or something failed
	exitUsage   = 2
	exitMissing = 3 // this machine cannot run the demo
)

// stories by the name given in STORY.
func stories() map[string]func(context.Context, *demo) error {
	return map[string]func(context.Context, *demo) error{
		"main":              mainStory,
		"baseline":          baseline,
		"wrong-credentials": wrongCredentials,
		"web-page":          webPage,
		"reverts":           reverts,
		"lost-state":        lostState,
		"gitops":            gitops,
		"stopped-agent":     stoppedAgent,
		"old-containerd":    oldContainerd,
		"broken-restart":    brokenRestart,
		proxyStoryName:      proxyStory,
	}
}

// setups are the nodes of a story that differ from the others.
func setups(story string) map[string]machine.NodeSetup {
	switch story {
	case "old-containerd":
		return oldNodes()
	case "broken-restart":
		return guardedNodes()
	}
	return nil
}

func main() {
	os.Exit(run())
}

// run is main with deferred calls that are made whatever happens.
func run() (status int) {
	o, err := optionsFrom(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitUsage
	}
	if missing := machine.Missing(); len(missing) > 0 {
		fmt.Fprintln(os.Stderr, "This machine cannot run the demo; missing:\n  "+strings.Join(missing, "\n  "))
		return exitMissing
	}
	binaries, err := machine.FindBinaries(o.root + "/.parts/bin")
	if err != nil {
		fmt.Fprintf(os.Stderr, "The real parts are not built yet; run make parts (or make demo):\n%v\n", err)
		return exitMissing
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	out := newScreen(os.Stdout)
	r, err := machine.NewRun(o.root+"/.demo", slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitBroken
	}
	defer func() {
		// Also after a panic, which goes on after this.
		if err := r.Close(o.keepFiles); err != nil {
			fmt.Fprintln(os.Stderr, "clean up:", err)
			status = exitBroken
		}
	}()
	err = play(ctx, r, binaries, o, out)
	switch {
	case ctx.Err() != nil && !o.keep:
		out.line("Interrupted; everything was stopped and removed.")
		return exitBroken
	case err != nil:
		out.failure(err)
		return exitBroken
	}
	return 0
}

// play sets up, tells the story, and with KEEP waits.
func play(ctx context.Context, r *machine.Run, b machine.Binaries, o options, out *screen) error {
	d, err := setUp(ctx, r, b, o, out)
	defer d.stop()
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	err = stories()[o.story](ctx, d)
	if o.keep && ctx.Err() == nil {
		if err != nil {
			out.failure(err)
		}
		return errors.Join(err, d.keep(ctx))
	}
	return err
}

type options struct {
	root      string
	story     string
	broken    string // kind of broken protocol, a negative control
	keep      bool   // leave the cluster running until Ctrl-C
	keepFiles bool   // leave the run's folder, for a look at its logs
}

func on(value string) bool { return value != "" && value != "0" && value != "false" }

func optionsFrom(env func(string) string) (options, error) {
	o := options{root: ".", story: env("STORY"), broken: env("BREAK"), keep: on(env("KEEP")), keepFiles: on(env("KEEP_FILES"))}
	ofProxy := proxyControls()[o.broken] != ""
	if o.story == "" && ofProxy {
		o.story = proxyStoryName
	}
	if o.story == "" {
		o.story = "main"
	}
	var known []string
	for name := range stories() {
		known = append(known, name)
	}
	slices.Sort(known)
	if !slices.Contains(known, o.story) {
		return options{}, fmt.Errorf("STORY=%s: there is no such story; there are %s", o.story, strings.Join(known, ", "))
	}
	if !ofProxy && !slices.Contains([]string{"", "order", "final-early"}, o.broken) {
		return options{}, fmt.Errorf("BREAK=%s: there is no such negative control; there are order, final-early, %s, %s and %s", o.broken, storeOnly, noFallThrough, lastByte)
	}
	if ofProxy && o.story != proxyStoryName {
		return options{}, fmt.Errorf("BREAK=%s is a negative control of STORY=%s", o.broken, proxyStoryName)
	}
	if _, err := os.Stat(o.root + "/go.mod"); err != nil {
		return options{}, errors.New("run the demo from the root of the repository")
	}
	return o, nil
}
