package machine

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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

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
	ports  int        // ever made
}

// The addresses of a run. They exist only inside its namespaces.
const (
	networkCIDR = "10.111.0.0/16"
	serviceCIDR = "10.112.0.0/24"
	podCIDR     = "10.113.0.0/16"
	gateway     = "10.111.255.254"
	// bridgeMAC is the gateway's: a bridge without one of its own takes that of a
	// port, and is out of reach for half a minute when a new port's is lower.
	bridgeMAC = "02:00:0a:6f:ff:fe"
)

// Space is a network namespace and a mount namespace, kept by a process that
// sleeps.
type Space struct {
	Name string
	IP   netip.Addr
	// Dir holds what the namespace sees as /etc (and /run and /var of a node).
	Dir string

	network *Network
	options spaceOptions
	// parts is where a node finds the binaries, inside, as in PATH.
	parts string

	mu     sync.Mutex // over what a restart replaces
	holder *Process
	port   string // its end of the cable at the bridge
}

// spaceOptions is how a Space is set up.
type spaceOptions struct {
	folders []Folder
	setUp   []string
	machine bool
}

// Folder is a folder of the host, seen at another path inside a namespace.
type Folder struct{ From, To string }

// NewNetwork makes the bridge.
func NewNetwork(ctx context.Context, r *Run) (*Network, error) {
	n := &Network{run: r, last: netip.MustParsePrefix(networkCIDR).Addr(), hosts: []string{"127.0.0.1 localhost"}}
	// Without redirects, else nodes would remember where a Service was.
	n.bridge = n.space("net", spaceOptions{setUp: []string{
		"echo 1 >/proc/sys/net/ipv4/ip_forward",
		"echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects",
		"echo 0 >/proc/sys/net/ipv4/conf/default/send_redirects",
	}})
	if err := n.bridge.hold(ctx); err != nil {
		return nil, err
	}
	bits := strconv.Itoa(netip.MustParsePrefix(networkCIDR).Bits())
	return n, n.bridge.ip(ctx, "link add br0 address "+bridgeMAC+" type bridge", "addr add "+gateway+"/"+bits+" dev br0", "link set br0 up")
}

// RouteService sends what goes to a service address to a namespace for good.
func (n *Network) RouteService(ctx context.Context, service netip.Addr, to *Space) error {
	if err := to.ip(ctx, "addr replace "+service.String()+"/32 dev lo"); err != nil {
		return err
	}
	return n.bridge.ip(ctx, "route replace "+service.String()+" via "+to.IP.String())
}

// AddHost makes a name known in all namespaces made from now on.
func (n *Network) AddHost(ip netip.Addr, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts = append(n.hosts, ip.String()+" "+name)
}

func (n *Network) hostLines() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.hosts)
}

// RoutePods sends what goes to a subnet of pods to the machine they run on.
func (n *Network) RoutePods(ctx context.Context, subnet netip.Prefix, to *Space) error {
	return n.bridge.ip(ctx, "route replace "+subnet.String()+" via "+to.IP.String())
}

// UnroutePods makes a subnet of pods unreachable: their machine has gone.
func (n *Network) UnroutePods(ctx context.Context, subnet netip.Prefix) error {
	return n.bridge.ip(ctx, "route replace unreachable "+subnet.String())
}

// NewSpace makes namespaces attached to the bridge. Its /etc is its own folder;
// folders are further ones, which hide what the host has at that path.
func (n *Network) NewSpace(ctx context.Context, name string, folders ...Folder) (*Space, error) {
	return n.attach(ctx, name, spaceOptions{folders: folders})
}

// NewMachine makes a Space that also has processes, a host name and shared
// memory of its own. Its process 1 takes in orphans, as an init does; with it
// everything ends that runs in the Space. The commands of setUp run inside
// before anything else does, path is where the machine has its programs.
func (n *Network) NewMachine(ctx context.Context, name, path string, setUp []string, folders ...Folder) (*Space, error) {
	s, err := n.attach(ctx, name, spaceOptions{folders: folders, setUp: setUp, machine: true})
	if s != nil {
		s.parts = path
	}
	return s, err
}

func (n *Network) space(name string, o spaceOptions) *Space {
	return &Space{Name: name, Dir: n.run.Path("spaces", name), network: n, options: o}
}

func (n *Network) attach(ctx context.Context, name string, o spaceOptions) (*Space, error) {
	n.mu.Lock()
	s := n.space(name, o)
	n.last = n.last.Next()
	s.IP = n.last
	n.mu.Unlock()
	return s, s.Restart(ctx)
}

// Restart ends what runs in the Space and makes its namespaces anew, at the
// same address: the power is switched off and on. Its folders stay as they are.
func (s *Space) Restart(ctx context.Context) error {
	if err := s.PowerOff(ctx); err != nil {
		return err
	}
	if err := s.hold(ctx); err != nil {
		return err
	}
	n := s.network
	n.mu.Lock()
	n.ports++
	port := "p" + strconv.Itoa(n.ports)
	n.mu.Unlock()
	if err := n.bridge.ip(ctx,
		"link add "+port+" type veth peer name eth0 netns "+strconv.Itoa(s.PID()),
		"link set "+port+" master br0 up",
	); err != nil {
		return err
	}
	s.mu.Lock()
	s.port = port
	s.mu.Unlock()
	bits := strconv.Itoa(netip.MustParsePrefix(networkCIDR).Bits())
	return s.ip(ctx,
		"addr add "+s.IP.String()+"/"+bits+" dev eth0",
		"link set eth0 up",
		"route add "+serviceCIDR+" via "+gateway,
		"route add "+podCIDR+" via "+gateway,
	)
}

// PowerOff ends the namespaces at once; of a machine, also everything that runs
// in them.
func (s *Space) PowerOff(ctx context.Context) error {
	s.mu.Lock()
	holder, port := s.holder, s.port
	s.port = ""
	s.mu.Unlock()
	if holder == nil {
		return nil
	}
	holder.Kill()
	if port == "" {
		return nil
	}
	// The kernel takes its time with the cable of a namespace that has gone, or
	// has taken it away already.
	if err := s.network.bridge.ip(ctx, "link del "+port); err != nil && !strings.Contains(err.Error(), "Cannot find device") {
		return err
	}
	return nil
}

// hold starts the sleeping process whose namespaces a Space is.
func (s *Space) hold(ctx context.Context) error {
	for file, content := range map[string]string{
		"hosts":         strings.Join(s.network.hostLines(), "\n") + "\n",
		"resolv.conf":   "# names come from /etc/hosts\noptions timeout:1 attempts:1\n",
		"nsswitch.conf": "hosts: files\n",
		"passwd":        "root:x:0:0:root:/root:/bin/sh\n",
		"group":         "root:x:0:\n",
	} {
		if err := writeFile(filepath.Join(s.Dir, "etc", file), []byte(content), 0o644); err != nil {
			return err
		}
	}
	holder, err := s.network.run.StartProcess(Command{
		Name: "ns-" + s.Name, Path: "/bin/sh", Args: []string{"-c", s.options.script(s.Name)},
		Unshare: true, Machine: s.options.machine, Dir: s.Dir,
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.holder = holder
	s.mu.Unlock()
	said := "ready " + strconv.Itoa(holder.PID)
	return holder.WaitReady(ctx, func(context.Context) error {
		// Mounted is what we see from here, too: the log of an earlier holder is
		// of no interest.
		data, err := os.ReadFile(holder.Log)
		if err == nil && !strings.Contains(string(data), said) {
			err = errors.New("namespaces are not set up")
		}
		return err
	})
}

// script is what the holder does: it sets the namespaces up and sleeps. Only a
// shell that waits for its children takes in orphans.
func (o spaceOptions) script(name string) string {
	// Our own process ID, while /proc is still the host's. Relative sources: a
	// folder mounted earlier may hide the run's own.
	script := []string{"set -e", "read -r self _ </proc/self/stat"}
	if o.machine {
		script = append(script, "mount --make-rprivate /", "echo "+name+" >/proc/sys/kernel/hostname")
	}
	script = append(script, "mount --rbind ./etc /etc")
	for _, f := range o.folders {
		script = append(script, fmt.Sprintf("mount --rbind %q %q", f.From, f.To))
	}
	end := "exec sleep infinity"
	if o.machine {
		script = append(script, "mount -t proc proc /proc")
		end = "cd /; while :; do sleep 1000000 & wait; done"
	}
	script = append(script, o.setUp...)
	if o.machine {
		script = append(script, "mount --make-rshared /") // as an init does; kubelets want it
	}
	return strings.Join(append(script, "ip link set lo up", `echo "ready $self"`, end), "\n")
}

// enter is the command line that runs what follows inside the namespaces.
func (s *Space) enter() []string {
	proc := fmt.Sprintf("/proc/%d/ns/", s.PID())
	argv := []string{"nsenter", "--net=" + proc + "net", "--mount=" + proc + "mnt"}
	if s.options.machine {
		return append(argv, "--uts="+proc+"uts", "--ipc="+proc+"ipc", "--pid="+proc+"pid", "--")
	}
	return append(argv, "--wd=/", "--")
}

// Command is a program to be run inside. When ctx ends, it is killed with its
// children.
func (s *Space) Command(ctx context.Context, argv ...string) *exec.Cmd {
	argv = append(s.enter(), argv...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + searchPath(s), "HOME=/root"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = stopAfter
	return cmd
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
func (s *Space) Close() { s.process().Kill() }

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
	target, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.PID()))
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

// PID is the process that keeps the namespaces: nsenter takes it. In a machine
// it is process 1.
func (s *Space) PID() int { return s.process().PID }

func (s *Space) process() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder
}
