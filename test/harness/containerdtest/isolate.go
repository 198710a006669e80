package containerdtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

const inside = "REGISTRY_TEST_ISOLATED"

// Isolate runs the tests of a package, which run stands for, in a network
// and mount namespace of their own, so that 127.0.0.1:5001 is theirs. Without root they
// run where they are, and those that need more skip. Call it from TestMain.
func Isolate(run func() int) int {
	if os.Geteuid() != 0 {
		return run()
	}
	if os.Getenv(inside) != "" {
		if err := errors.Join(network(), hide()); err != nil {
			fmt.Fprintln(os.Stderr, "set up the tests' own namespaces:", err)
			return 1
		}
		return run()
	}
	// The signal of a parent's death is bound to the thread that made the child.
	runtime.LockOSThread()
	cmd := exec.Command(os.Args[0], os.Args[1:]...) //nolint:noctx // this very program, for as long as this process lives
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no namespaces of our own:", err)
		return run()
	}
	// The child gets the terminal's signals itself and cleans up.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests in their own namespaces:", err)
		return 1
	}
	return 0
}

// network gives the namespace a loopback, and an address with a default route,
// which kube-apiserver looks for even when it is told to stay on loopback.
func network() error {
	// The rest of the world is out of reach at once, name servers above all.
	for _, args := range []string{
		"link set lo up", "addr add 192.0.2.1/32 dev lo", "route add default dev lo src 192.0.2.1",
		"route add unreachable 8.0.0.0/5", "route add unreachable 16.0.0.0/4", "route add unreachable 32.0.0.0/3",
		"route add unreachable 64.0.0.0/2", "route add unreachable 128.0.0.0/1",
	} {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput() //nolint:noctx // tests only, and it never waits
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return nil
}

// hide covers the folders of the host's own containerd: shims put their
// sockets and the state of runc there whatever the configuration says, and a
// containerd 2.x reads its drop-ins.
func hide() error {
	const run, etc = "/run/containerd", "/etc/containerd"
	if err := os.MkdirAll(run, 0o711); err != nil {
		return err
	}
	for _, dir := range []string{run, etc} {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			continue // nothing to hide
		}
		if err := syscall.Mount("tests", dir, "tmpfs", 0, "mode=0711"); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	return nil
}
