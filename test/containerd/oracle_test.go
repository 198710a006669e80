package containerd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	old "github.com/containerd/containerd/remotes/docker/config"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// asked is one place that a containerd would ask for a host's images, and answer all
// of them. The fields are those of the program v16.
type asked struct {
	URL          string
	Capabilities int
	SkipVerify   bool
	CAs, Clients int
	Header       http.Header
}

type answer struct {
	Refused string // containerd ignored the file, and why
	Failed  string // every pull fails, and why
	Hosts   []asked
}

// oracle is one version's own code that reads hosts.toml.
type oracle struct {
	version string
	ask     func(t testing.TB, root, host string) answer
}

// oracles are all versions that we support, the oldest first.
func oracles(t testing.TB) []oracle {
	t.Helper()
	return []oracle{{"1.6.20", startV16(t)}, {"1.7.35", askV17}, {"2.4.2", askV2}}
}

// startV16 is containerd 1.6, which is a program: it and 1.7 have the same import
// path.
func startV16(t testing.TB) func(testing.TB, string, string) answer {
	t.Helper()
	program := filepath.Join(t.TempDir(), "v16")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = "v16"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build v16: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	var one sync.Mutex
	lines := bufio.NewReader(out)
	return func(t testing.TB, root, host string) (a answer) {
		t.Helper()
		one.Lock()
		defer one.Unlock()
		if err := json.NewEncoder(in).Encode(map[string]string{"Root": root, "Host": host}); err != nil {
			t.Fatal(err)
		}
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &a)
		}
		if err != nil {
			t.Fatalf("v16 says %q: %v", line, err)
		}
		return a
	}
}

// refusals sees what containerd logs: that it ignored a file is only in its log.
type refusals struct{ to *string }

func (refusals) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

func (r refusals) Fire(e *logrus.Entry) error {
	*r.to = fmt.Sprint(e.Data["error"])
	return nil
}

func (a *answer) listen(ctx context.Context) context.Context {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(refusals{&a.Refused})
	return log.WithLogger(ctx, logrus.NewEntry(logger))
}

// ended notes that containerd would not survive the file.
func (a *answer) ended() {
	if p := recover(); p != nil {
		*a = answer{Failed: fmt.Sprint("containerd ends: ", p)}
	}
}

func askV17(t testing.TB, root, host string) (a answer) {
	t.Helper()
	defer a.ended()
	hosts, err := old.ConfigureHosts(a.listen(t.Context()), old.HostOptions{HostDir: old.HostDirFromRoot(root)})(host)
	if err != nil {
		a.Failed = err.Error()
	}
	for _, h := range hosts {
		a.add(h.Scheme, h.Host, h.Path, int(h.Capabilities), h.Header, h.Client)
	}
	return a
}

func askV2(t testing.TB, root, host string) (a answer) {
	t.Helper()
	defer a.ended()
	hosts, err := config.ConfigureHosts(a.listen(t.Context()), config.HostOptions{HostDir: config.HostDirFromRoot(root)})(host)
	if err != nil {
		a.Failed = err.Error()
	}
	for _, h := range hosts {
		a.add(h.Scheme, h.Host, h.Path, int(h.Capabilities), h.Header, h.Client)
	}
	return a
}

func (a *answer) add(scheme, host, path string, capabilities int, header http.Header, client *http.Client) {
	if strings.HasSuffix(strings.ToLower(fmt.Sprintf("%T", client.Transport)), "httpfallback") {
		scheme = "http" // HTTPS is only tried first
	}
	out := asked{URL: scheme + "://" + host + path, Capabilities: capabilities & 7, Header: header}
	if tr, ok := client.Transport.(*http.Transport); ok && tr.TLSClientConfig != nil {
		out.SkipVerify, out.Clients = tr.TLSClientConfig.InsecureSkipVerify, len(tr.TLSClientConfig.Certificates)
		if tr.TLSClientConfig.RootCAs != nil {
			out.CAs = len(tr.TLSClientConfig.RootCAs.Subjects()) //nolint:staticcheck // enough to count those of files
		}
	}
	a.Hosts = append(a.Hosts, out)
}
