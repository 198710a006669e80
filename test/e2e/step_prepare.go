package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/kube"
	"github.com/d8-registry/registry/test/harness/machine"
)

// legacyFile is a user's own, in the format of long ago.
const (
	legacyFile = "/etc/containerd/conf.d/custom-auth.toml"
	legacyAuth = `# Credentials in containerd's legacy format, as a user added them long ago.
[plugins."io.containerd.grpc.v1.cri".registry.configs."registry.io".auth]
  username = "username"
  password = "password"
`
	// mirrorFile is what the documents' script writes.
	mirrorFile = "/etc/containerd/registry.d/registry.io/hosts.toml"
	mirrored   = "registry.io/registry/path:tag"
)

// mastersReady is the documents' step before Direct.
func (s *story) mastersReady(ctx context.Context) error { return s.masters(ctx, 63, 69, 78) }

// mastersReadyAgain is the same before Unmanaged.
func (s *story) mastersReadyAgain(ctx context.Context) error { return s.masters(ctx, 148, 154, 163) }

// masters asks whether all masters are Ready, and once more with one of them
// cordoned.
func (s *story) masters(ctx context.Context, command, ready, cordoned int) error {
	printed, err := s.run(ctx, docManage, command)
	if err != nil {
		return err
	}
	b := s.block(docManage, ready)
	s.compared(b, "the list of nodes", compareTable(b.Text, printed, map[string]string{"master-0": "m0"}))
	if _, err := s.shell(ctx, "d8 k cordon m0"); err != nil {
		return err
	}
	if printed, err = s.run(ctx, docManage, command); err != nil {
		return err
	}
	b = s.block(docManage, cordoned)
	s.compared(b, "the list with a cordoned master", compareTable(b.Text, printed, map[string]string{"master-2": "m0"}))
	_, err = s.shell(ctx, "d8 k uncordon m0")
	return err
}

func (s *story) moduleRunning(ctx context.Context) error {
	printed, err := s.run(ctx, docManage, 87)
	if err != nil {
		return err
	}
	b := s.block(docManage, 93)
	s.compared(b, "the module", compareTable(b.Text, printed, map[string]string{"registry": "registry"}))
	return nil
}

// settingsA fills the placeholders of the documents' example.
func settingsA(a *machine.Registry) []filled {
	const scheme = "scheme: HTTPS\n"
	return []filled{
		{"registry.deckhouse.io/deckhouse/ee", a.Base()},
		{"<LICENSE_KEY>", a.Users["license-token"]},
		// Not a placeholder: a registry with a private CA needs one line more.
		{scheme, scheme + "        ca: |\n          " + indented(a.CA, 10) + "\n"},
	}
}

func indented(text string, by int) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+strings.Repeat(" ", by))
}

// clash asks for Direct while a node has credentials in the legacy format.
func (s *story) clash(ctx context.Context) error {
	if err := s.noted(ctx); err != nil {
		return err
	}
	n, err := s.cluster.Node(oldNode)
	if err != nil {
		return err
	}
	if err := s.writeLegacy(ctx, n); err != nil {
		return err
	}
	// It has been there for long when somebody asks for Direct.
	err = until(ctx, "the agent of "+oldNode+" to report it", time.Minute, func(ctx context.Context) error {
		var r v1alpha1.RegistryNode
		if err := s.client.Get(ctx, client.ObjectKey{Name: oldNode}, &r); err != nil {
			return err
		}
		return unless(r.Status.Preflight == "Custom", "preflight is %s: %s", r.Status.Preflight, r.Status.Message)
	})
	if err != nil {
		return err
	}
	if err := s.apply(ctx, docManage, 102, settingsA(s.a())...); err != nil {
		return err
	}
	err = s.waitCondition(ctx, "ContainerdConfigPreflightReady", metav1.ConditionFalse, oldNode, legacyFile)
	s.expect("the preflight names the node and the file", err)
	if err != nil {
		return err
	}
	st, err := s.readStatus(ctx)
	if err != nil {
		return err
	}
	s.expect("the images were checked before, Ready is False", unless(st.is("RegistryContainsRequiredImages", metav1.ConditionTrue) && st.is("Ready", metav1.ConditionFalse), "%+v", st.Conditions))
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.expectRestarts("no containerd was restarted yet", s.before, now, map[string]int{})
	return nil
}

func (s *story) writeLegacy(ctx context.Context, n *kube.Node) error {
	s.out.say("%s: a user's file %s", n.Name, legacyFile)
	_, err := n.Run(ctx, legacyAuth, "sh", "-c", "mkdir -p /etc/containerd/conf.d && cat >"+legacyFile)
	return err
}

// caPlaceholder is the documents' certificate on the node.
func caPlaceholder() filled { return filled{"/path/to/ca.crt", caFile} }

// documentedHosts is the documents' hosts.toml.
func (s *story) documentedHosts() string {
	return strings.ReplaceAll(s.block(docManage, 238).Text, caPlaceholder().from, caPlaceholder().to)
}

// mirrorAuth brings the documents' hosts.toml to all nodes; it has no effect yet.
func (s *story) mirrorAuth(ctx context.Context) error {
	if err := s.apply(ctx, docManage, 262, caPlaceholder()); err != nil {
		return err
	}
	b := s.block(docManage, 238)
	err := until(ctx, "the script on every node", readyWithin/3, func(ctx context.Context) error {
		for _, n := range s.nodes() {
			text, err := n.Run(ctx, "", "cat", mirrorFile)
			if err != nil {
				return err
			}
			if text != s.documentedHosts() {
				return fmt.Errorf("%s has %q", n.Name, text)
			}
		}
		return nil
	})
	s.compared(b, "hosts.toml on every node", err)
	if err != nil {
		return err
	}
	if _, err := s.shell(ctx, "d8 k get nodegroupconfiguration"); err != nil {
		return err
	}
	for _, n := range s.nodes() {
		for _, command := range s.pullCommands() {
			err := s.ctr(ctx, n, command)
			s.out.say("%s$ %s: %s", n.Name, command, lastLine(err))
			s.expect("not before the switch: stock containerd sends no credentials", unless(err != nil, "it was pulled"))
		}
	}
	return nil
}

// pullCommands are the documents' two commands, as printed.
func (s *story) pullCommands() []string {
	var commands []string
	for line := range strings.Lines(s.block(docManage, 296).Text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			commands = append(commands, line)
		}
	}
	return commands
}

func lastLine(err error) string {
	if err == nil {
		return "pulled"
	}
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return lines[len(lines)-1]
}

// prepared deletes the legacy file, and the switch goes on by itself.
func (s *story) prepared(ctx context.Context) error {
	n, err := s.cluster.Node(oldNode)
	if err != nil {
		return err
	}
	s.out.say("%s$ rm %s", n.Name, legacyFile)
	if _, err := n.Run(ctx, "", "rm", legacyFile); err != nil {
		return err
	}
	err = s.waitCondition(ctx, "ContainerdConfigPreflightReady", metav1.ConditionTrue)
	s.expect("the switch goes on", err)
	return err
}

// mirrorAuthWorks runs the documents' commands on nodes in Direct.
func (s *story) mirrorAuthWorks(ctx context.Context) error {
	tree := s.block(docManage, 225)
	command, _, _ := strings.Cut(tree.Text, "\n")
	for _, n := range s.nodes() {
		printed, err := n.Run(ctx, "", "sh", "-c", "export LANG=C.UTF-8; "+command)
		if err != nil {
			return err
		}
		s.out.say("%s$ %s   # %s:%d-%d", n.Name, command, tree.Doc, tree.First, tree.Last)
		s.out.output(printed)
		s.compared(tree, "the tree of "+n.Name, compareTree(tree.Text, printed, opening{"registry.deckhouse.ru", s.a().Host}))
		text, err := n.Run(ctx, "", "cat", mirrorFile)
		if err != nil {
			return err
		}
		s.compared(s.block(docManage, 238), "hosts.toml of "+n.Name+", the agent's marked block left out,", unless(withoutBlock(text) == s.documentedHosts(), "it is %q", text))
		if err := s.pullMirrored(ctx, n); err != nil {
			return err
		}
	}
	return s.enough(ctx, fewest)
}

// withoutBlock is a user's hosts.toml without what the agent put into it.
func withoutBlock(text string) string {
	before, rest, found := strings.Cut(text, "# registry-agent: begin\n")
	if !found {
		return text
	}
	_, after, found := strings.Cut(rest, "# registry-agent: end\n")
	if !found {
		return text
	}
	return strings.TrimRight(before, " ") + after
}

// pullMirrored runs the documents' commands on a node, and pulls as the kubelet
// does; each time the image comes from the mirror.
func (s *story) pullMirrored(ctx context.Context, n *kube.Node) error {
	for _, command := range append(s.pullCommands(), "") {
		what := command
		try := func() error { return s.ctr(ctx, n, command) }
		if command == "" {
			what, try = "as the kubelet pulls: "+mirrored, func() error { return n.Pull(ctx, mirrored, machine.Login{}) }
		}
		sent, err := s.sentByMirror()
		if err != nil {
			return err
		}
		err = try()
		now, logErr := s.sentByMirror()
		if logErr != nil {
			return logErr
		}
		if err == nil && now == sent {
			err = errors.New("it did not come from registry.deckhouse.ru")
		}
		s.expect(fmt.Sprintf("%s$ %s", n.Name, what), err)
		if err := s.forgetMirrored(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// ctr runs one of the documents' commands. On a machine that cannot hold
// overlays, ctr gets the same snapshotter as containerd.
func (s *story) ctr(ctx context.Context, n *kube.Node, command string) error {
	_, err := n.Run(ctx, "", "sh", "-c", `CONTAINERD_SNAPSHOTTER=$(containerd config dump | sed -n "s/^ *snapshotter = .\([a-z]*\).$/\1/p" | head -n 1); export CONTAINERD_SNAPSHOTTER; `+command)
	return err
}

// forgetMirrored removes the image from a node under all names that it has, so
// that the next pull needs a registry.
func (s *story) forgetMirrored(ctx context.Context, n *kube.Node) error {
	names := fmt.Sprintf("%s registry.io/registry/path@%s %s", mirrored, s.mirrored.Digest, s.mirrored.ConfigDigest)
	return until(ctx, n.Name+" to forget "+mirrored, time.Minute, func(ctx context.Context) error {
		_, err := n.Run(ctx, "", "sh", "-c", "ctr -n k8s.io images rm --sync "+names+` >/dev/null 2>&1
			! ctr -n k8s.io images ls -q | grep -F -e registry.io/registry/path -e `+s.mirrored.ConfigDigest+` >&2 &&
			! ctr -n k8s.io content ls -q | grep -F `+s.mirrored.Digest+" >&2")
		return err
	})
}

// sentByMirror is how many blobs the documents' mirror sent.
func (s *story) sentByMirror() (int, error) {
	sent, err := s.cluster.Registries[2].Log.Downloads()
	return len(sent), err
}
