// V16 is containerd 1.6's own reading of hosts.toml, for the tests in the folder
// above. It is a program and a module of its own, because 1.6 and 1.7 have the same
// import path. Each line of its input is a host directory and a host; each line of
// its output is what containerd 1.6 would ask for that host.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/containerd/containerd/log"
	"github.com/containerd/containerd/remotes/docker/config"
	"github.com/sirupsen/logrus"
)

// question is one line of the input.
type question struct {
	Root string // what config_path would be
	Host string
}

// answer is one line of the output. Its fields are those of oracle.Answer.
type answer struct {
	Refused string // containerd ignored the file, and why
	Failed  string // every pull fails, and why
	Hosts   []host
}

type host struct {
	URL          string
	Capabilities int
	SkipVerify   bool
	CAs, Clients int
	Header       http.Header
}

func main() {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return
		}
		var q question
		if err == nil {
			err = json.Unmarshal(line, &q)
		}
		if err == nil {
			err = out.Encode(ask(q))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// hook sees what containerd logs: that it ignored a file is only in its log.
type hook struct{ refused *string }

func (hook) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

func (h hook) Fire(e *logrus.Entry) error {
	*h.refused = fmt.Sprint(e.Data["error"])
	return nil
}

func ask(q question) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{Failed: fmt.Sprint("containerd ends: ", p)}
		}
	}()
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(hook{&a.Refused})
	ctx := log.WithLogger(context.Background(), logrus.NewEntry(logger)) //nolint:forbidigo // this is main
	hosts, err := config.ConfigureHosts(ctx, config.HostOptions{HostDir: config.HostDirFromRoot(q.Root)})(q.Host)
	if err != nil {
		a.Failed = err.Error()
	}
	for _, h := range hosts {
		out := host{URL: h.Scheme + "://" + h.Host + h.Path, Capabilities: int(h.Capabilities), Header: h.Header}
		if tr, ok := h.Client.Transport.(*http.Transport); ok && tr.TLSClientConfig != nil {
			tls := tr.TLSClientConfig
			out.SkipVerify, out.Clients = tls.InsecureSkipVerify, len(tls.Certificates)
			if tls.RootCAs != nil {
				out.CAs = len(tls.RootCAs.Subjects()) //nolint:staticcheck // enough to count those of files
			}
		}
		a.Hosts = append(a.Hosts, out)
	}
	return a
}
