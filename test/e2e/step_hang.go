package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// freeze stops the half of an agent that serves pulls, without ending it, and prints
// its number. Processes of a node are its own.
const freeze = `for p in /proc/[0-9]*; do
	case $(tr '\0' ' ' <"$p/cmdline") in
	"registry-agent serve "*) kill -STOP "${p#/proc/}" && echo "${p#/proc/}" ;;
	esac
done 2>/dev/null; true`

// agentHangs stops a node's agent as a deadlock does: it still listens. The kubelet
// finds out by its probe and starts the container anew; the node pulls meanwhile.
func (s *story) agentHangs(ctx context.Context) error {
	n, err := s.cluster.Node(reimagedNode) // of today, and there from the beginning
	if err != nil {
		return err
	}
	before, err := s.serving(ctx, n.Name)
	if err != nil {
		return err
	}
	began := time.Now()
	stopped, err := n.Run(ctx, "", "sh", "-c", freeze)
	if err != nil {
		return err
	}
	if len(strings.Fields(stopped)) != 1 {
		return fmt.Errorf("processes that were stopped on %s: %q", n.Name, stopped)
	}
	s.out.say("$ kill -STOP %s   # registry-agent serve on %s", strings.TrimSpace(stopped), n.Name)
	again := before
	if err := until(ctx, "the agent of "+n.Name+", started anew", 4*time.Minute, func(ctx context.Context) error {
		if again, err = s.serving(ctx, n.Name); err == nil && (again.RestartCount == before.RestartCount || !again.Ready) {
			err = fmt.Errorf("%d restarts, ready: %t", again.RestartCount, again.Ready)
		}
		return err
	}); err != nil {
		return err
	}
	s.took("an agent that hangs answers again", time.Since(began))
	s.expect("the kubelet started it anew, once", unless(again.RestartCount == before.RestartCount+1, "%d restarts, %d before", again.RestartCount, before.RestartCount))
	meanwhile, most := 0, time.Duration(0)
	for _, pull := range s.pulls.recorder.Pulls(s.now.phase) {
		if pull.Node == n.Name && pull.Err == nil && pull.At.After(began) && pull.At.Add(pull.Took).Before(again.State.Running.StartedAt.Time) {
			meanwhile, most = meanwhile+1, max(most, pull.Took)
		}
	}
	s.expect(fmt.Sprintf("%s pulled while its agent hung: %d times, the longest took %s", n.Name, meanwhile, seconds(most)), unless(meanwhile > 0, "it did not"))
	_, err = s.shell(ctx, "d8 k -n "+system+" get events --field-selector reason=Unhealthy; d8 k -n "+system+" get pods -o wide --field-selector spec.nodeName="+n.Name)
	return errors.Join(err, s.enough(ctx, fewest))
}

// serving is what the kubelet says of the container that serves a node's pulls.
func (s *story) serving(ctx context.Context, node string) (corev1.ContainerStatus, error) {
	pods, err := s.podsOf(ctx, system, "registry-agent")
	if err != nil {
		return corev1.ContainerStatus{}, err
	}
	for i := range pods {
		for _, c := range pods[i].Status.ContainerStatuses {
			if pods[i].Spec.NodeName == node && c.Name == "serve" && c.State.Running != nil {
				return c, nil
			}
		}
	}
	return corev1.ContainerStatus{}, errors.New("no agent serves on " + node)
}
