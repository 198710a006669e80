package stores

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/foreign"
)

// mostNamed is how many nodes a message names.
const mostNamed = 3

// Seen is how the stores are. Problems are those of Specs. What was pulled through them, how
// they are reached, and who used them, others know. Of a Wish for none it is what is left.
func (w Wish) Seen(there *cluster.Snapshot, problems map[string]error) switchover.Stores {
	reached, lost := w.left(there)
	s := switchover.Stores{Exists: len(reached) > 0}
	if w.None {
		s.Missing = lost
	}
	pins := pinsIn(there)
	var why []string
	for _, c := range w.candidates(there) {
		if c.away != "" {
			if !w.None {
				s.Missing = append(s.Missing, c.node.Name+": "+c.away)
			}
			continue
		}
		s.Wanted++
		endpoint := c.endpoint(w.Pod.Port)
		// One of an older version serves as well: stores are replaced one after the other.
		if _, ok := c.serves(); !ok || endpoint == "" || w.isBehind(c) {
			s.Waiting = append(s.Waiting, c.node.Name)
			why = append(why, c.node.Name+": "+w.why(there, c, problems[c.node.Name]))
			continue
		}
		r := c.report()
		s.Ready++
		s.Endpoints = append(s.Endpoints, endpoint)
		if s.Ready == 1 || r.Generation < s.Generation {
			s.Generation, s.Oldest = r.Generation, nil
		}
		if r.Generation == s.Generation {
			s.Oldest = append(s.Oldest, c.node.Name)
		}
		// An image is there if each store has its part of it.
		if cached := holds(r, pins); s.Ready == 1 || cached < s.Cached {
			s.Cached = cached
		}
		s.Used = pins
	}
	slices.Sort(s.Endpoints)
	if len(why) > mostNamed {
		why = append(why[:mostNamed], fmt.Sprintf("and %d more", len(why)-mostNamed))
	}
	s.Message = strings.Join(why, "; ")
	return s
}

// holds is how many of the images in use a store says that it has. One that counts others has
// not read the list of now: it may lack any of that, and most are in both.
func holds(r *v1alpha1.StoreStatus, pins int) int {
	cached := min(count(r.Cached), pins)
	if count(r.Wanted) != pins {
		cached = min(cached, max(pins-1, 0))
	}
	return cached
}

// isBehind reports whether a store may run the wanted version and does not yet.
func (w Wish) isBehind(c candidate) bool {
	version, _ := c.serves()
	s := c.spec()
	return s == nil || s.Approved == w.version(w.image(c)) && version != s.Approved
}

// why is what one that is not ready waits for.
func (w Wish) why(there *cluster.Snapshot, c candidate, problem error) string {
	said := ""
	if r := c.report(); r != nil {
		said = foreign.Line(r.Message, foreign.Word)
	}
	switch {
	case problem != nil:
		return problem.Error()
	case c.spec() == nil:
		return "it has not been asked yet"
	case c.report() == nil:
		return "its agent has not reported yet"
	}
	return cmp.Or(said, "it does not serve yet") + unstarted(there, c.node.Name)
}

// unstarted is what the kubelet says of a pod that it does not start: the agent sees no pods.
func unstarted(there *cluster.Snapshot, node string) string {
	for pod := range storePods(there, node) {
		if why := pod.WaitingReason(); why != "" {
			return "; Pod " + pod.Name + ": " + foreign.Line(why, foreign.Word)
		}
	}
	return ""
}

// storePods are those of the store of a node.
func storePods(there *cluster.Snapshot, node string) iter.Seq[*excerpt.Pod] {
	return func(yield func(*excerpt.Pod) bool) {
		if there.Inventory == nil {
			return
		}
		for pod := range there.Inventory.OwnPods() {
			if pod.Node == node && pod.IsStore() && !yield(pod) {
				return
			}
		}
	}
}

// left are the nodes that run a store, or may: those that can be reached, and the others, each
// with the reason. A node whose agent is gone is reached by nobody, though it is Ready: while
// stores are to be there the switch waits for it, and afterwards nobody asks that one any more.
func (w Wish) left(there *cluster.Snapshot) (reached, lost []string) {
	for i := range there.Nodes {
		node := &there.Nodes[i]
		rn := there.RegistryNodes[node.Name]
		if rn == nil || rn.Spec.Store == nil && rn.Status.Store == nil {
			continue
		}
		why := away(node)
		since, silent := w.Silent[node.Name]
		switch {
		case why != "" || !w.None:
		case !cluster.WantsAgent(node):
			why = "no agent runs there"
		case silent:
			why = silentSince(since)
		}
		if why == "" {
			reached = append(reached, node.Name)
		} else {
			lost = append(lost, node.Name+": "+why)
		}
	}
	return reached, lost
}

func silentSince(since time.Time) string {
	return "its agent is silent since " + since.UTC().Format(time.RFC3339)
}

// pinsIn is how many images stores are told of.
func pinsIn(there *cluster.Snapshot) int {
	secret := there.OwnSecret(v1alpha1.SecretStore)
	if secret == nil {
		return 0
	}
	return bytes.Count(secret.Data[v1alpha1.KeyStorePins], []byte("\n"))
}

// count is a number that a node reports.
func count(n int64) int { return int(min(max(n, 0), 1<<30)) }

// content is what all stores serve by. The others of each are those that run or are to run: one
// that starts, or is restarted, changes no owner. Images in use are told once all serve, so that
// each fetches its own part and can tell the next one of it; from then on, and after the switch,
// whatever happens.
func (w Wish) content(there *cluster.Snapshot, specs map[string]*v1alpha1.StoreSpec) (map[string][]byte, error) {
	endpoints, starting := []string{}, false
	for _, c := range w.candidates(there) {
		if _, serves := c.serves(); c.away == "" && !serves {
			starting = true
		}
		if s := specs[c.node.Name]; s != nil && (c.away == "" || s.Approved != "") && c.endpoint(w.Pod.Port) != "" {
			endpoints = append(endpoints, c.endpoint(w.Pod.Port))
		}
	}
	if w.Switching && starting && pinsIn(there) == 0 {
		w.Pins = nil
	}
	slices.Sort(endpoints)
	list, err := json.Marshal(endpoints)
	if err != nil {
		return nil, fmt.Errorf("encode the list of stores: %w", err)
	}
	data := map[string][]byte{
		v1alpha1.KeyProxyLayout: w.Layout, v1alpha1.KeyProxyUsers: w.Users,
		v1alpha1.KeyStoreEndpoints: list, v1alpha1.KeyStoreCA: []byte(cmp.Or(w.Trusted, w.CA.Cert)),
	}
	room := corev1.MaxSecretSize - roomForRest
	for _, value := range data {
		room -= len(value)
	}
	if w.Pins = fit(w.Pins, room); len(w.Pins) > 0 {
		data[v1alpha1.KeyStorePins] = []byte(strings.Join(w.Pins, "\n") + "\n")
	}
	return data, nil
}
