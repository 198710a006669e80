package switchover

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
)

// Users know these texts: they stay word for word.

const (
	mostNodes = 10
	mostUsers = 10
	// mostForeign is how many of those are named that a switch does not wait for:
	// there may be any number.
	mostForeign  = 3
	mostFailures = 5
	// mostVersion is the beginning of a hash, in bytes.
	mostVersion = 18
	// mostMessage is a whole condition, in bytes. All of them are in one Secret,
	// twice. Ten nodes that say as much as they may fit.
	mostMessage = 8 << 10
)

func allCheckedMessage(host string, items int) string {
	return fmt.Sprintf("%s: all %d items are checked", host, items)
}

func checkMessage(request CheckRequest, report CheckReport) string {
	if report.Fingerprint == "" || report.Fingerprint != request.Fingerprint() {
		return "Initializing"
	}
	return progressMessage(request.Upstream.Host, report)
}

func progressMessage(host string, report CheckReport) string {
	switch {
	case report.Problem != "":
		return host + ": " + foreign.Line(report.Problem, foreign.Sentence)
	case report.OwnDiffers != "":
		return host + ": " + foreign.Line(report.OwnDiffers, 4*foreign.Sentence)
	case !report.At.IsZero() && report.FailureCount == 0:
		return withLines(allCheckedMessage(host, report.Total), foreign.Line(report.OwnUnknown, 2*foreign.Sentence))
	case report.FailureCount == 0:
		return fmt.Sprintf("%s: %d of %d items processed", host, report.Done, report.Total)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d of %d items processed, %d items with errors:\n", host, report.Done, report.Total, report.FailureCount)
	shown := report.Failures[:min(len(report.Failures), mostFailures)]
	for _, f := range shown {
		fmt.Fprintf(&b, "- source: %s\n  image: %s\n  error: %s\n",
			foreign.Line(f.Source, foreign.Word), foreign.Line(f.Image, foreign.Word), foreign.Line(f.Error, foreign.Sentence))
	}
	if report.FailureCount > len(shown) {
		b.WriteString("  ...and more\n")
	}
	return b.String()
}

// unreadableAddress names nodes whose containerd cannot read the names of images at an
// IPv6 address, which our own images have in every mode. Where the user has moved
// the cluster already there is nothing to stop.
func (e *evaluation) unreadableAddress() string {
	nodes, _ := e.waitingFor(func(n Node) bool { return !n.NoIPv6 })
	host := e.s.Target.Upstream.Host
	if len(nodes) == 0 || e.untouched() || !strings.HasPrefix(host, "[") {
		return ""
	}
	return fmt.Sprintf("%s: containerd 1.6 cannot read image references with an IPv6 address. Use a DNS name, or upgrade containerd on %s.",
		host, nodeList(nodes, func(n Node) string { return n.Name }))
}

// differingMessage warns of tags that mean another image than before the switch.
func differingMessage(c Comparison) string {
	first := c.First
	if more := c.Differing - len(first); more > 0 {
		first = append(slices.Clone(first), fmt.Sprintf("...and %d more", more))
	}
	return fmt.Sprintf("%d tag(s) mean another image than at the registry before: %s", c.Differing, strings.Join(capped(first, mostUsers), ", "))
}

func (e *evaluation) preflightMessage(unready []Node, of int) string {
	var b strings.Builder
	b.WriteString("Check current nodes configuration\n")
	fmt.Fprintf(&b, "%d/%d node(s) Unready:\n", len(unready), of)
	writeNodes(&b, unready, func(n Node) string {
		switch {
		case n.Unsupported != "":
			return n.Unsupported
		case e.silence(n) != "":
			return e.silence(n)
		case n.Report.Preflight == PreflightUnsupported:
			return cmp.Or(n.Report.Message, "unsupported containerd configuration")
		case n.Report.Preflight == PreflightCustom:
			return "has custom toml merge containerd configuration" + because(n)
		}
		return "unknown containerd configuration, waiting..."
	})
	return b.String()
}

func (e *evaluation) rolloutMessage(waiting []Node, of int) string {
	var b strings.Builder
	b.WriteString("Applying configuration to nodes\n")
	if !e.seen.Published.Found {
		b.WriteString("Creating Managed configuration...\n")
	}
	version := e.s.Desired.Layout.Version()
	fmt.Fprintf(&b, "%d/%d node(s) ready. Waiting:\n", of-len(waiting), of)
	writeNodes(&b, waiting, func(n Node) string {
		if silent := e.silence(n); silent != "" {
			return silent
		}
		reason := because(n)
		if e.unpublished(n) || !e.rules.valid(n) {
			reason = ": " + e.standing(n)
		}
		return fmt.Sprintf("%s → %s%s", quoteVersion(n.Report.Version), quoteVersion(version), reason)
	})
	if len(e.tooMany) > 0 {
		fmt.Fprintf(&b, "More nodes are NotReady than this can go without: %s\n", strings.Join(capped(e.tooMany, mostNodes), ", "))
	}
	b.WriteString(e.restartsMessage())
	return b.String()
}

func (e *evaluation) legacyMessage(waiting []Node, of int) string {
	var b strings.Builder
	b.WriteString("Cleaning Managed configuration...\n")
	fmt.Fprintf(&b, "%d/%d node(s) ready. Waiting:\n", of-len(waiting), of)
	writeNodes(&b, waiting, func(n Node) string {
		return cmp.Or(e.silence(n), quoteVersion(n.Report.Version)+" → Unmanaged"+because(n))
	})
	b.WriteString(e.restartsMessage())
	return b.String()
}

// because is the node's own reason why it is not there yet.
func because(n Node) string {
	if reason := foreign.Line(cmp.Or(n.Unsupported, n.Report.Message), foreign.Sentence); reason != "" {
		return ": " + reason
	}
	return ""
}

// restartsMessage lists the nodes that need a restart of containerd: those that
// have their approval, those that wait for it, and those that failed.
func restartsMessage(restarting, waiting, failed []Node) string {
	var b strings.Builder
	if len(failed) > 0 {
		fmt.Fprintf(&b, "containerd restarts have stopped, %d node(s) failed and are as before:\n", len(failed))
		writeNodes(&b, failed, func(n Node) string {
			return cmp.Or(n.Report.Restart.Message, "no reason given")
		})
		b.WriteString("Repair what failed. To go on without a node, or if it lies: kubectl annotate node NAME " + names.AnnotationExclude + "=true\n")
	}
	if len(restarting)+len(waiting) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "containerd restarts: %d of %d nodes", len(restarting), len(restarting)+len(waiting)+len(failed))
	if len(restarting) > 0 {
		b.WriteString(": " + nodeList(restarting, func(n Node) string {
			if n.Report.Restart.Phase == RestartWaiting {
				return n.Name + " (approved)"
			}
			return n.Name + " (" + string(n.Report.Restart.Phase) + ")"
		}))
	}
	if len(waiting) > 0 {
		b.WriteString("; waiting: " + nodeList(waiting, func(n Node) string {
			if n.Report.Restart.Phase != RestartWaiting {
				return n.Name + " (says " + string(n.Report.Restart.Phase) + " without approval)"
			}
			return n.Name
		}))
	}
	b.WriteString("\n")
	return b.String()
}

// nodeList is nodes by name, not too many of them.
func nodeList(nodes []Node, say func(Node) string) string {
	words := make([]string, 0, len(nodes))
	for _, n := range nodes {
		words = append(words, say(n))
	}
	slices.Sort(words)
	return strings.Join(capped(words, mostNodes), ", ")
}

func writeNodes(b *strings.Builder, nodes []Node, say func(Node) string) {
	for _, n := range nodes[:min(len(nodes), mostNodes)] {
		fmt.Fprintf(b, "- %s: %s\n", foreign.Line(n.Name, foreign.Word), foreign.Line(say(n), foreign.Sentence))
	}
	if more := len(nodes) - mostNodes; more > 0 {
		fmt.Fprintf(b, "\t...and %d more\n", more)
	}
}

func quoteVersion(version string) string {
	return `"` + foreign.Line(cmp.Or(version, "unknown"), mostVersion) + `"`
}

func proxyMessage(p Proxy) string {
	message := "Incluster-proxy deploying in progress: " +
		cmp.Or(foreign.Line(p.Message, foreign.Sentence), fmt.Sprintf("%d of %d updated Pods are currently available", p.Ready, p.Wanted)) + "."
	if len(p.Missing) > 0 {
		message += " Not waited for: " + strings.Join(capped(p.Missing, mostNodes), ", ") + "."
	}
	return message
}

func inUseMessage(what string, clients []string) string {
	message := "Waiting until nobody has used " + what + " for a while"
	if len(clients) == 0 {
		return message
	}
	return message + ". Last clients: " + strings.Join(capped(clients, mostUsers), ", ")
}

func misplacedMessage(want layout.Name, misplaced []Reference) string {
	var users []string
	seen := map[string]bool{}
	for _, r := range misplaced {
		if user := fmt.Sprintf("%s (%s)", r.User, r.Name); !seen[user] {
			seen[user] = true
			users = append(users, user)
		}
	}
	return fmt.Sprintf("%d workload(s) to be re-pointed to %s: %s", len(users), want, strings.Join(capped(users, mostUsers), ", "))
}

func excludedMessage(excluded []Exclusion) string {
	var nodes []string
	for _, e := range excluded {
		nodes = append(nodes, e.Node)
	}
	return fmt.Sprintf("%d node(s) not waited for: %s", len(nodes), strings.Join(capped(nodes, mostNodes), ", "))
}

// keptMessage lists the names that stay only because something refers to them.
// What is not the platform's never takes the place of what is.
func (e *evaluation) keptMessage() string {
	var b strings.Builder
	own := e.ownNames(e.s.Target)
	for _, n := range e.s.Desired.Layout.Names() {
		if slices.Contains(own, n) {
			continue
		}
		users := capped(e.users(func(r Reference) bool { return r.Name == n && !r.Foreign }), mostUsers)
		if others := e.users(func(r Reference) bool { return r.Name == n && r.Foreign }); len(others) > 0 {
			users = append(slices.Clone(users), "not the platform's: "+strings.Join(capped(others, mostForeign), ", "))
		}
		if len(users) == 0 {
			continue // kept for the proxy's clients, until Cleanup
		}
		if b.Len() == 0 {
			fmt.Fprintf(&b, "Names that are still in use and served by %s:\n", e.s.Target.Upstream.Base())
		}
		fmt.Fprintf(&b, "- %s: %s\n", n, strings.Join(users, ", "))
	}
	return b.String()
}

// leftMessage lists who still uses names that nobody serves once the layout is gone.
func (e *evaluation) leftMessage() string {
	users := e.users(e.needsLayout)
	if len(users) == 0 {
		return ""
	}
	return fmt.Sprintf("%d user(s) of names that nobody serves any more: %s\n", len(users), strings.Join(capped(users, mostUsers), ", "))
}

// uncheckedMessage says what a switch does not wait for.
func (e *evaluation) uncheckedMessage() string {
	namespaces := map[string]bool{}
	others, ignored := 0, 0
	for _, r := range e.seen.Census.References {
		switch {
		case r.Ignored && !r.Foreign:
			ignored++
		case r.Foreign && !r.Ignored:
			others++
			namespaces[r.Namespace] = true
		}
	}
	var b strings.Builder
	if others > 0 {
		fmt.Fprintf(&b, "%d reference(s) of %d namespace(s) that are not the platform's are not checked: %s\n", others, len(namespaces),
			strings.Join(capped(slices.Sorted(maps.Keys(namespaces)), mostForeign), ", "))
	}
	if lists := e.seen.Census.Lists; lists > 0 {
		fmt.Fprintf(&b, "%d ConfigMap(s) %s are not the platform's, or are ignored, and require nothing\n", lists, names.LabelRequiredImages)
	}
	if ignored > 0 {
		fmt.Fprintf(&b, "%d reference(s) of the platform are not checked, because of annotation %s\n", ignored, names.AnnotationIgnore)
	}
	return b.String()
}

// users are the users of some references, each once.
func (e *evaluation) users(of func(Reference) bool) []string {
	var users []string
	seen := map[string]bool{}
	for _, r := range e.seen.Census.References {
		if of(r) && !seen[r.User] {
			seen[r.User] = true
			users = append(users, r.User)
		}
	}
	return users
}

// withLines puts further lines below a message, if there are any.
func withLines(message, more string) string {
	if message == "" || more == "" {
		return message + more
	}
	return strings.TrimSuffix(message, "\n") + "\n" + more
}

// platformMessage is how far the platform is, with a line for each that is waited for.
func platformMessage(p Platform, otherwise string) string {
	lines := append([]string{cmp.Or(foreign.Line(p.Message, foreign.Sentence), otherwise)}, capped(p.Waiting, mostUsers)...)
	return strings.Join(lines, "\n- ")
}

func skippedMessage(skipped []string) string {
	if len(skipped) == 0 {
		return ""
	}
	return "Not re-pointed: " + strings.Join(capped(skipped, mostUsers), ", ")
}

// capped keeps a list and its words short and says how much is missing.
func capped(list []string, most int) []string {
	var words []string
	for _, word := range list[:min(len(list), most)] {
		words = append(words, foreign.Line(word, foreign.Sentence))
	}
	if more := len(list) - most; more > 0 {
		words = append(words, fmt.Sprintf("...and %d more", more))
	}
	return words
}
