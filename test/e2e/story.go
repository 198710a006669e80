package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/kube"
	"github.com/d8-registry/registry/test/harness/machine"
)

// story is a cluster and what happened on it.
type story struct {
	out     *screen
	log     *slog.Logger
	cluster *kube.Cluster
	client  client.Client
	pulls   *pulls

	documents map[string]block           // by "document:line"
	used      map[string]map[string]bool // blocks that were run, applied or compared, by step
	now       step
	breaks    bool        // the negative control
	broken    []string    // promises that did not hold
	measured  [][2]string // what took how long, for the summary

	files   map[string]map[string]string // of nodes, before anything was installed
	before  facts                        // of the last look
	settled string                       // hash of the last settings that were Ready

	objects  []string      // of the cluster, before anything was installed
	mirrored machine.Image // of the documents' commands
}

// errBroken ends a story in which a promise did not hold.
var errBroken = errors.New("not all promises held")

func newStory(out *screen, log *slog.Logger, c *kube.Cluster) (*story, error) {
	s := &story{
		out: out, log: log, cluster: c, client: c.Client,
		documents: map[string]block{}, used: map[string]map[string]bool{}, files: map[string]map[string]string{},
	}
	for _, doc := range []string{docManage, docModule} {
		blocks, err := readDocument(doc)
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			s.documents[b.String()] = b
		}
	}
	return s, nil
}

// tell plays the timeline from its beginning, up to and including a step, or to
// its end if last is empty.
func (s *story) tell(ctx context.Context, last string) error {
	defer func() {
		if s.pulls != nil {
			s.pulls.stop()
		}
	}()
	for _, next := range timeline() {
		if s.now.phase != next.phase {
			if err := s.endPhase(ctx, next.phase); err != nil {
				return err
			}
		}
		s.now = next
		began := time.Now()
		s.out.title("%s: %s", next.name, next.title)
		problems := len(s.broken)
		if err := next.do(s, ctx); err != nil {
			s.out.line("--- FAIL %s after %s: %v", next.name, seconds(time.Since(began)), err)
			return fmt.Errorf("%s: %w", next.name, err)
		}
		s.checkUsed(next.name)
		verdict := "PASS"
		if len(s.broken) > problems {
			verdict = "FAIL"
		}
		s.out.line("--- %s %s  %s  %s", verdict, next.name, seconds(time.Since(began)), strings.Join(linesOf(next.name, s.documents), " "))
		if next.name == last {
			break
		}
	}
	return s.summary(ctx)
}

// linesOf are the lines of the documents that a step shows.
func linesOf(step string, documents map[string]block) []string {
	var lines []string
	for _, doc := range []string{docManage, docModule} {
		var of []string
		for _, e := range script() {
			b, ok := documents[fmt.Sprintf("%s:%d", e.doc, e.line)]
			if ok && e.doc == doc && slices.Contains(e.inSteps(), step) {
				of = append(of, fmt.Sprintf("%d-%d", b.First, b.Last))
			}
		}
		if len(of) > 0 {
			lines = append(lines, doc+" "+strings.Join(of, ","))
		}
	}
	return lines
}

// checkUsed holds a step against the script: what it has to run, apply or
// compare it did.
func (s *story) checkUsed(step string) {
	for _, e := range script() {
		at := fmt.Sprintf("%s:%d", e.doc, e.line)
		if slices.Contains(e.inSteps(), step) && s.documents[at].fence() && !s.used[at][step] {
			s.expect(fmt.Sprintf("step %s does what the script says", step), fmt.Errorf("it did not %s %s", e.how, at))
		}
	}
}

// block is a block of the documents, noted as used by the present step.
func (s *story) block(doc string, line int) block {
	at := fmt.Sprintf("%s:%d", doc, line)
	b, ok := s.documents[at]
	if !ok {
		panic("the documents have no block " + at) // the unit tests know them all
	}
	if s.used[at] == nil {
		s.used[at] = map[string]bool{}
	}
	s.used[at][s.now.name] = true
	return b
}

// expect prints a promise, and remembers it if it did not hold.
func (s *story) expect(promise string, err error) {
	if err == nil {
		s.out.say("✓ %s", promise)
		return
	}
	s.out.say("✗ %s: %v", promise, err)
	s.broken = append(s.broken, fmt.Sprintf("%s: %s: %v", s.now.name, promise, err))
}

// took prints how long something took, and keeps it for the summary.
func (s *story) took(what string, d time.Duration) {
	s.out.say("%s: %s", what, seconds(d))
	s.measured = append(s.measured, [2]string{what, seconds(d)})
}

// run runs a block's commands as an operator does and returns what they print.
func (s *story) run(ctx context.Context, doc string, line int) (string, error) {
	b := s.block(doc, line)
	s.out.say("$ %s   # %s:%d-%d", strings.TrimSpace(b.Text), b.Doc, b.First, b.Last)
	return s.shell(ctx, b.Text)
}

func (s *story) shell(ctx context.Context, script string) (string, error) {
	stdout, stderr, err := s.cluster.Shell(ctx, script)
	s.out.output(stdout)
	if err != nil {
		return stdout, fmt.Errorf("%s: %w: %s", strings.TrimSpace(script), err, strings.TrimSpace(stderr))
	}
	return stdout, nil
}

// compared prints that an output is as in the documents, or how it differs.
func (s *story) compared(b block, what string, err error) {
	s.expect(fmt.Sprintf("%s is as printed in %s:%d-%d", what, b.Doc, b.First, b.Last), err)
}

// filled is a placeholder of the documents and what stands for it here.
type filled struct{ from, to string }

// apply applies a block's YAML, its placeholders filled in; the rest is
// verbatim.
func (s *story) apply(ctx context.Context, doc string, line int, fill ...filled) error {
	b := s.block(doc, line)
	s.out.say("$ kubectl apply -f - <<EOF   # %s:%d-%d, verbatim but for:", b.Doc, b.First, b.Last)
	for _, f := range fill {
		s.out.say("    %q -> %q", f.from, brief(f.to))
	}
	text, err := b.fill(fill)
	if err != nil {
		return err
	}
	if len(fill) == 0 {
		s.out.say("    nothing")
	}
	out, err := s.cluster.Kubectl(ctx, text, "apply", "-f", "-")
	s.out.output(out)
	return err
}

// fill is the block's text with its placeholders filled in.
func (b block) fill(fill []filled) (string, error) {
	text := b.Text
	for _, f := range fill {
		if !strings.Contains(text, f.from) {
			return "", fmt.Errorf("%s does not have the placeholder %q", b, f.from)
		}
		text = strings.ReplaceAll(text, f.from, f.to)
	}
	return text, nil
}

func brief(text string) string {
	const most = 120
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// until calls f until it returns nil; the last error is returned when the time
// is over.
func until(ctx context.Context, what string, within time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var last error // of a look that was not cut short
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (%w)", what, last, ctx.Err())
		case <-ticker.C:
		}
	}
}

const lookEvery = 250 * time.Millisecond

// summary prints what took how long, and what did not hold.
func (s *story) summary(ctx context.Context) error {
	if err := s.endPhase(ctx, ""); err != nil {
		return err
	}
	s.out.title("Summary")
	for _, m := range s.measured {
		s.out.say("%-60s %s", m[0], m[1])
	}
	if s.pulls != nil {
		s.pulls.total(s)
	}
	s.out.say("%-60s %s", "all of it", seconds(time.Since(s.out.began)))
	if len(s.broken) == 0 {
		s.out.say("All promises held.")
		return nil
	}
	for _, b := range s.broken {
		s.out.say("✗ %s", b)
	}
	return errBroken
}

// keep leaves the cluster running and tells a person how to look around, until
// ctx ends.
func (s *story) keep(ctx context.Context) {
	s.out.title("The cluster is left running until Ctrl-C here. In another terminal:")
	s.out.line("  export %s\n  d8() { shift; kubectl \"$@\"; }\n  d8 k get nodes; d8 k get registrynodes", strings.Join(s.cluster.Environment(), " "))
	s.out.line("  logs: %s", s.cluster.Run.Path("logs"))
	for _, n := range s.nodes() {
		pid := n.Space.PID()
		s.out.line("  a terminal on %s: nsenter -t %d -n -m -p -- bash", n.Name, pid)
	}
	<-ctx.Done()
}

// nodes are the names of the cluster's nodes.
func (s *story) nodes() []*kube.Node { return s.cluster.Nodes }

// a and b are the two registries.
func (s *story) a() *machine.Registry { return s.cluster.Registries[0] }
func (s *story) b() *machine.Registry { return s.cluster.Registries[1] }
