package containerd

import (
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

func TestUnit(t *testing.T) {
	t.Parallel()
	for groups, want := range map[string]string{
		"0::/system.slice/containerd.service\n":                                                               "containerd.service",
		"0::/../../../system.slice/containerd-deckhouse.service\n":                                            "containerd-deckhouse.service",
		"0::/system.slice/k3s.service/init\n":                                                                 "k3s.service",
		"12:pids:/x.service\n1:name=systemd:/system.slice/docker.service\n":                                   "docker.service",
		"1:name=systemd:/\n0::/system.slice/rke2-agent.service\n":                                             "rke2-agent.service",
		"0::/user.slice/user-0.slice/session-1.scope\n":                                                       "",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/containerd.service\n":                     "containerd.service",
		"0::/system.slice/containerd.service/kubepods/cri-containerd-1.scope\n":                               "",
		"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-2.scope/system.slice/containerd.service/child": "containerd.service",
		"0::/\n": "", "": "", "rubbish": "", "0::": "", "0::..": "",
	} {
		if got := unit([]byte(groups)); got != want {
			t.Errorf("%q: %q, want %q", groups, got, want)
		}
	}
}

func TestProxied(t *testing.T) {
	t.Parallel()
	const service, ip = "registry.d8-system.svc", "10.222.0.17"
	all := []string{service, ip, "fd00::17"}
	for _, test := range []struct {
		environ  string
		variable string
		through  []string
	}{
		{"PATH=/bin", "", nil},
		{"HTTP_PROXY=http://p:3128", "", nil}, // our registries speak TLS
		{"HTTPS_PROXY=http://u:PASSWORD@p:3128", "HTTPS_PROXY", all},
		{"https_proxy=p:3128", "https_proxy", all},
		{"HTTPS_PROXY=p NO_PROXY=*", "HTTPS_PROXY", nil},
		{"HTTPS_PROXY=p NO_PROXY=.svc,10.222.0.0/16", "HTTPS_PROXY", []string{"fd00::17"}},
		{"HTTPS_PROXY=p no_proxy=svc,10.222.0.17,fd00::/8", "HTTPS_PROXY", nil},
		{"HTTPS_PROXY=p NO_PROXY=d8-system.svc", "HTTPS_PROXY", []string{ip, "fd00::17"}},
		{"HTTPS_PROXY=p NO_PROXY=registry.d8-system.svc:5001,10.0.0.0/8,fd00::17", "HTTPS_PROXY", nil},
		{"HTTPS_PROXY=p NO_PROXY=registry.d8-system.svc:443", "HTTPS_PROXY", all},
		{"HTTPS_PROXY=p NO_PROXY=registry", "HTTPS_PROXY", all},
		// The capital letters win, as containerd has it.
		{"HTTPS_PROXY=p NO_PROXY=localhost no_proxy=*", "HTTPS_PROXY", all},
		{"HTTPS_PROXY= NO_PROXY=x", "", nil},
	} {
		variable, through := proxied([]byte(strings.ReplaceAll(test.environ, " ", "\x00")+"\x00"), all)
		if variable != test.variable || !reflect.DeepEqual(through, test.through) {
			t.Errorf("%s: %s, %v", test.environ, variable, through)
		}
	}
	// Our own address is on loopback, which never goes through a proxy.
	if _, through := proxied([]byte("HTTPS_PROXY=p\x00"), []string{"127.0.0.1", "localhost", "::1"}); through != nil {
		t.Errorf("loopback through the proxy: %v", through)
	}
}

func TestProxyWarningIsOfTheProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	cmd.Env = []string{"HTTPS_PROXY=http://user:PASSWORD@proxy.example.com", "NO_PROXY=localhost"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for proxyWarning(Process{PID: cmd.Process.Pid}, "", []string{serviceHost}) == "" && t.Context().Err() == nil {
		if data, err := os.ReadFile("/proc/self/environ"); err != nil || len(data) == 0 {
			t.Skip("no environment in /proc")
		}
	} // until the child has its own
	got := proxyWarning(Process{PID: cmd.Process.Pid}, "containerd.service", []string{serviceHost})
	for _, part := range []string{"HTTPS_PROXY", "add registry.d8-system.svc to NO_PROXY in the environment of containerd.service"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q has no %q", got, part)
		}
	}
	if strings.Contains(got, "PASSWORD") || strings.Contains(got, "proxy.example") {
		t.Errorf("the proxy's address is shown: %q", got)
	}
	if got := proxyWarning(Process{PID: 1 << 22}, "", []string{serviceHost}); got != "" {
		t.Errorf("of no process: %q", got)
	}
}
