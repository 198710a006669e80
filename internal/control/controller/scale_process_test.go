package controller

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/d8-registry/registry/internal/memory"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// counted counts what a client writes of each object, and what it is served. A write
// that the API server was too busy for is none: the client's library sends it again.
type counted struct {
	next   http.RoundTripper
	bytes  atomic.Int64
	busy   atomic.Int64 // writes that the API server was too busy for
	mu     sync.Mutex
	writes map[string]int // by path
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == "" {
		if err == nil && resp.StatusCode == http.StatusTooManyRequests {
			c.busy.Add(1)
		} else {
			c.mu.Lock()
			c.writes[r.URL.Path]++
			c.mu.Unlock()
		}
	}
	if err == nil {
		resp.Body = &countedBody{resp.Body, &c.bytes}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	return n, err
}

// of is how many writes there were to objects below a path, and the most to one.
func (c *counted) of(below, end string) (all, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, n := range c.writes {
		name, ok := strings.CutPrefix(path, below)
		name, ends := strings.CutSuffix(name, end)
		if ok && ends && !strings.Contains(name, "/") {
			all, most = all+n, max(most, n)
		}
	}
	return all, most
}

// process is the program that ships, in a process of its own, and what it takes.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	metrics string // URL
	heap    string // URL
	counted *counted
}

// memoryLimit is the container's in the chart.
const memoryLimit = 1 << 30

// startProcess builds registry-controller and starts it, until the test ends. It
// reaches the API server through a proxy that counts.
func (c *testbed) startProcess() *process {
	c.t.Helper()
	dir := c.t.TempDir()
	p := &process{t: c.t, counted: &counted{writes: map[string]int{}}}
	program := filepath.Join(dir, "registry-controller")
	build := exec.CommandContext(c.t.Context(), "go", "build", "-o", program, "../../../cmd/registry-controller")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	port, profiles := loopback.Address(c.t), loopback.Address(c.t)
	p.metrics, p.heap = "http://"+port+"/metrics", "http://"+profiles+"/debug/pprof/heap"
	p.cmd = exec.CommandContext(c.t.Context(), program, "--kubeconfig", apiserver.Kubeconfig(c.t, p.proxy(c.cfg.REST)),
		"--image", c.cfg.Image, "--proxy-dial", c.cfg.ProxyDial, "--proxy-idle", "0s", "--metrics-address", port, "--pprof-address", profiles, "--health-address", "0", "--scripts", "off")
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", memory.Variable, memoryLimit))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = timeout
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		c.t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// Pdeathsig is about the thread: this goroutine keeps it until the end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		<-ended
		if c.t.Failed() {
			data, _ := os.ReadFile(log.Name())
			c.t.Logf("registry-controller: …%s", data[max(0, len(data)-3000):])
		}
	})
	return p
}

// proxy is the way to the API server with an identity.
func (p *process) proxy(as *rest.Config) *rest.Config {
	p.t.Helper()
	target, err := url.Parse(as.Host)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.counted.next, err = rest.TransportFor(as); err != nil {
		p.t.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: p.counted, FlushInterval: -1,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	p.t.Cleanup(server.CloseClientConnections)
	return &rest.Config{Host: server.URL}
}

// taken is what a process has taken up to a moment.
type taken struct {
	at     time.Time
	cpu    time.Duration
	peak   int // MiB, since the taken before
	served int64
	passes int
	writes int // of Nodes
}

var (
	passesOf = regexp.MustCompile(`controller_runtime_reconcile_total\{controller="switch",result="[a-z_]+"\} (\S+)`)
	peakOf   = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)
)

// takes asks what the process has taken, and forgets the peak of its memory.
func (p *process) takes() taken {
	p.t.Helper()
	t := taken{at: time.Now(), served: p.counted.bytes.Load()}
	t.writes, _ = p.counted.of("/api/v1/nodes/", "")
	for _, m := range passesOf.FindAllStringSubmatch(p.get(p.metrics), -1) {
		n, _ := strconv.ParseFloat(m[1], 64)
		t.passes += int(n)
	}
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		p.t.Fatal(err)
	}
	if m := peakOf.FindSubmatch(status); m != nil {
		kib, _ := strconv.Atoi(string(m[1]))
		t.peak = kib >> 10
	}
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		p.t.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	for _, ticks := range strings.Fields(fields)[11:13] { // utime and stime, hundredths of a second
		n, _ := strconv.Atoi(ticks)
		t.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	if err := os.WriteFile(proc+"clear_refs", []byte("5"), 0); err != nil {
		p.t.Fatal(err)
	}
	return t
}

// profile writes what holds memory into the folder PROFILES, if there is one.
func (p *process) profile(what string) {
	p.t.Helper()
	dir := os.Getenv("PROFILES")
	if dir == "" {
		return
	}
	file := filepath.Join(dir, strings.ReplaceAll(what, " ", "-")+".pprof")
	if err := os.WriteFile(file, []byte(p.get(p.heap)), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) get(url string) string {
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: timeout}).Do(req)
	if err != nil {
		return "" // it does not listen yet
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}
