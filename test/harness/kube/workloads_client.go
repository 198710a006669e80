package kube

import (
	"context"
	_ "embed" // the manifest
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

const (
	clientImage  = "localhost/registry-client:e2e"
	clientWithin = time.Minute
)

//go:embed client.yaml
var clientManifest string

// ClientPull is one line of what the client pod says; test/e2e/client explains
// it.
type ClientPull struct {
	Time      time.Time `json:"time"`
	Reference string    `json:"reference"`
	Address   string    `json:"address"`
	Took      int64     `json:"took"` // ms
	Error     string    `json:"error"`
	Done      int       `json:"done"`
	Failed    int       `json:"failed"`
	Unread    int       `json:"unread"`
}

// ClientCounts is what the client pod has done.
type ClientCounts struct {
	Done, Failed int
	// Unread is how often it could not read the Secret: no pull was tried.
	Unread int
	// ByAddress is how many pulls were done through what the Secret said.
	ByAddress map[string]int
	// Failures are the pulls that failed, and the Secrets that were not read.
	Failures []ClientPull
	// Last is the last pull.
	Last ClientPull
}

// StartClient starts the client pod on a node, and returns when it has pulled
// once. It needs the platform and the module.
func (c *Cluster) StartClient(ctx context.Context, node string) error {
	n, err := c.Node(node)
	if err != nil {
		return err
	}
	program := c.Run.Path("programs", "client")
	if err := c.compile(ctx, "./test/e2e/client", program); err != nil {
		return err
	}
	archive, err := c.archive(clientImage, program)
	if err != nil {
		return err
	}
	if err := n.ImportImage(ctx, archive); err != nil {
		return err
	}
	// By tag, and one by digest.
	byDigest, err := c.Reference("", "web/server")
	if err != nil {
		return err
	}
	values := map[string]string{"node": node, "clientImage": clientImage, "clientPulls": fmt.Sprintf("%q", "-images=:"+DeckhouseTag+","+byDigest)}
	if err := c.applyTemplate(ctx, clientManifest, values); err != nil {
		return fmt.Errorf("start the client: %w", err)
	}
	if _, err := c.Kubectl(ctx, "", "-n", "d8-client", "wait", "pod/client", "--for=condition=Ready", "--timeout="+clientWithin.String()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clientWithin)
	defer cancel()
	return waitUntil(ctx, "the client's first pull", func(ctx context.Context) error {
		counts, err := c.ClientCounts(ctx)
		if err == nil && counts.Done == 0 {
			err = fmt.Errorf("it failed %d times: %s", counts.Failed, counts.Last.Error)
		}
		return err
	})
}

// ClientCounts reads what the client pod has done so far from its log.
func (c *Cluster) ClientCounts(ctx context.Context) (ClientCounts, error) {
	log, err := c.Kubectl(ctx, "", "-n", "d8-client", "logs", "client")
	if err != nil {
		return ClientCounts{}, err
	}
	return countClient(log)
}

func countClient(log string) (ClientCounts, error) {
	counts := ClientCounts{ByAddress: map[string]int{}}
	for line := range strings.Lines(log) {
		if !strings.HasSuffix(line, "\n") {
			break // it is still being written
		}
		var pull ClientPull
		if err := json.Unmarshal([]byte(line), &pull); err != nil {
			return counts, fmt.Errorf("the client says %q: %w", line, err)
		}
		if pull.Error == "" {
			counts.ByAddress[pull.Address]++
		} else {
			counts.Failures = append(counts.Failures, pull)
		}
		counts.Last = pull
	}
	counts.Done, counts.Failed, counts.Unread = counts.Last.Done, counts.Last.Failed, counts.Last.Unread
	return counts, nil
}
