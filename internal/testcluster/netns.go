package testcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Network is a bridge in a namespace of its own, with every other namespace of
// the run attached to it. Nothing of it is on the host, so two runs never meet.
type Network struct {
	mu     sync.Mutex // over what follows, while pods come and go
	run    *Run
	bridge *Space
	last   netip.Addr // the last address handed out
	hosts  []string   // lines of every /etc/hosts
	spaces []*Space
}

// The addresses of a run. They exist only inside its namespaces.
const (
	networkCIDR = "10.111.0.0/16"
	serviceCIDR = "10.112.0.0/24"
	gateway     = "10.111.255.254"
)

// Space is a network namespace and a mount namespace, kept by a process that
// sleeps.
type Space struct {
	Name string
	IP   netip.Addr
	// Dir holds what the namespace sees as /etc (and /run and /var of a node).
	Dir    string
	holder *Process
	// parts is where a node finds the binaries, inside.
	parts string
}

// Folder is a folder of the host, seen at another path inside a namespace.
type Folder struct{ From, To string }

// NewNetwork makes the bridge.
func NewNetwork(ctx context.Context, r *Run) (*Network, error) {
	n := &Network{run: r, last: netip.MustParsePrefix(networkCIDR).Addr(), hosts: []string{"127.0.0.1 localhost"}}
	// Without redirects, else nodes would remember where a Service was.
	bridge, err := n.hold(ctx, "net", nil,
		"echo 1 >/proc/sys/net/ipv4/ip_forward",
		"echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects",
		"echo 0 >/proc/sys/net/ipv4/conf/default/send_redirects")
	if err != nil {
		return nil, err
	}
	n.bridge = bridge
	bits := strconv.Itoa(netip.MustParsePrefix(networkCIDR).Bits())
	return n, bridge.ip(ctx, "link add br0 type bridge", "addr add "+gateway+"/"+bits+" dev br0", "link set br0 up")
}

// RouteService sends what goes to a service address to a namespace, which must
// hold the address. It is all of a Service's network that is played here.
func (n *Network) RouteService(ctx context.Context, service netip.Addr, to *Space) error {
	if err := to.ip(ctx, "addr replace "+service.String()+"/32 dev lo"); err != nil {
		return err
	}
	return n.bridge.ip(ctx, "route replace "+service.String()+" via "+to.IP.String())
}

// UnrouteService makes a service address unreachable.
func (n *Network) UnrouteService(ctx context.Context, service netip.Addr) error {
	return n.bridge.ip(ctx, "route replace unreachable "+service.String())
}

// AddHost makes a name known in all namespaces made from now on.
func (n *Network) AddHost(ip netip.Addr, name string) {
	n.hosts = append(n.hosts, ip.String()+" "+name)
}

// NewSpace makes namespaces attached to the bridge. Its /etc is its own folder;
// folders are further ones, which hide what the host has at that path.
func (n *Network) NewSpace(ctx context.Context, name string, folders ...Folder) (*Space, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := n.hold(ctx, name, folders)
	if err != nil {
		return nil, err
	}
	n.last = n.last.Next()
	s.IP = n.last
	n.spaces = append(n.spaces, s)
	pid := strconv.Itoa(s.holder.PID)
	port := "p" + strconv.Itoa(len(n.spaces))
	bits := strconv.Itoa(netip.MustParsePrefix(networkCIDR).Bits())
	if err := n.bridge.ip(ctx,
		"link add "+port+" type veth peer name eth0 netns "+pid,
		"link set "+port+" master br0 up",
	); err != nil {
		return nil, err
	}
	return s, s.ip(ctx,
		"addr add "+s.IP.String()+"/"+bits+" dev eth0",
		"link set eth0 up",
		"route add "+serviceCIDR+" via "+gateway,
	)
}

// hold starts the sleeping process whose namespaces a Space is.
func (n *Network) hold(ctx context.Context, name string, folders []Folder, setUp ...string) (*Space, error) {
	s := &Space{Name: name, Dir: n.run.Path("spaces", name)}
	etc := filepath.Join(s.Dir, "etc")
	for file, content := range map[string]string{
		"hosts":         strings.Join(n.hosts, "\n") + "\n",
		"resolv.conf":   "# names come from /etc/hosts\noptions timeout:1 attempts:1\n",
		"nsswitch.conf": "hosts: files\n",
		"passwd":        "root:x:0:0:root:/root:/bin/sh\n",
		"group":         "root:x:0:\n",
	} {
		if err := writeFile(filepath.Join(etc, file), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	// Relative sources: a folder mounted earlier may hide the run's own.
	script := []string{"set -e", "mount --rbind ./etc /etc"}
	for _, f := range folders {
		script = append(script, fmt.Sprintf("mount --rbind %q %q", f.From, f.To))
	}
	script = append(script, setUp...)
	script = append(script, "ip link set lo up", "echo ready", "exec sleep infinity")
	holder, err := n.run.StartProcess(Command{
		Name: "ns-" + name, Path: "/bin/sh", Args: []string{"-c", strings.Join(script, "\n")},
		Unshare: true, Dir: s.Dir,
	})
	if err != nil {
		return nil, err
	}
	s.holder = holder
	return s, holder.WaitReady(ctx, func(context.Context) error {
		data, err := os.ReadFile(holder.Log)
		if err == nil && !strings.Contains(string(data), "ready") {
			err = errors.New("namespaces are not set up")
		}
		return err
	})
}

// enter is the command line that runs what follows inside the namespaces.
func (s *Space) enter() []string {
	proc := fmt.Sprintf("/proc/%d/ns/", s.holder.PID)
	return []string{"nsenter", "--net=" + proc + "net", "--mount=" + proc + "mnt", "--wd=/", "--"}
}

// ip runs commands of iproute2 inside.
func (s *Space) ip(ctx context.Context, commands ...string) error {
	for _, c := range commands {
		argv := append(s.enter(), "ip")
		argv = append(argv, strings.Fields(c)...)
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s in %s: %w: %s", c, s.Name, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// Close ends the namespaces. Processes in them must have ended.
func (s *Space) Close() { s.holder.Kill() }

// DialContext connects from inside the network namespace. The address must be
// an IP, for the host's resolver knows nothing of the names inside.
func (s *Space) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := s.inside(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens inside the network namespace.
func (s *Space) Listen(ctx context.Context, address string) (net.Listener, error) {
	var listener net.Listener
	err := s.inside(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		return err
	})
	return listener, err
}

// inside runs f on a thread that is in the network namespace. A socket stays in
// the namespace in which it was made.
func (s *Space) inside(f func() error) error {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", s.Name, err)
	}
	defer own.Close() //nolint:errcheck // read only
	target, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.holder.PID))
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", s.Name, err)
	}
	defer target.Close() //nolint:errcheck // read only
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", s.Name, err)
	}
	err = f()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		// A thread in the wrong namespace must serve nobody else.
		panic(fmt.Sprintf("leave %s: %v", s.Name, back))
	}
	runtime.UnlockOSThread()
	return err
}

func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// PID is the process that keeps the namespaces: nsenter takes it.
func (s *Space) PID() int { return s.holder.PID }
