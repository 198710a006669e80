// Command client is a program in the cluster that uses the registry directly, as
// a vulnerability scanner or an exporter does: it asks Secret
// d8-system/deckhouse-registry where the registry is and how to get in, and pulls
// from there by go-containerregistry, again and again, to the last byte.
//
// It is stricter than a real one. It tries nothing twice: neither a request (the
// library's retries are off) nor a pull. What it read it holds for -hold, as real
// ones do, so pulls begin with data that are older than a switch's last change;
// they count as failed all the same, for what was handed out must go on working.
// Only the pulls count: a Secret that could not be read is reported as "unread".
//
// Each pull is a line of JSON on standard output, with the numbers so far.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
)

// Line is one line of the output: a pull, or a Secret that could not be read.
type Line struct {
	Time      time.Time `json:"time"`
	Reference string    `json:"reference,omitempty"`
	// Address is what the Secret said: host and path.
	Address string `json:"address,omitempty"`
	// Age is how long ago the Secret was read, in ms; Took the time of the pull.
	Age   int64  `json:"age"`
	Took  int64  `json:"took"`
	Blobs int    `json:"blobs"`
	Bytes int64  `json:"bytes"`
	Error string `json:"error,omitempty"`
	// So far.
	Done   int `json:"done"`
	Failed int `json:"failed"`
	Unread int `json:"unread"`
}

func main() {
	suffixes := flag.String("images", "", `what to pull below the registry's address, by comma: ":tag", "@sha256:..."`)
	hold := flag.Duration("hold", 2*time.Second, "how long what was read is used")
	pause := flag.Duration("pause", 200*time.Millisecond, "between two pulls")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // this is main
	defer stop()
	config, err := rest.InClusterConfig()
	if err == nil {
		err = run(ctx, config, strings.Split(*suffixes, ","), *hold, *pause)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1) //nolint:gocritic // the context's work is over
	}
}

func run(ctx context.Context, config *rest.Config, suffixes []string, hold, pause time.Duration) error {
	secrets, err := newSecrets(config, hold)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	var sum Line
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		line := pullOnce(ctx, secrets, suffixes[i%len(suffixes)])
		if ctx.Err() != nil {
			return nil // it was told to stop in the middle
		}
		sum.count(&line)
		if err := out.Encode(line); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		timer.Reset(pause)
	}
}

// count adds a line to the numbers, and the numbers to the line.
func (l *Line) count(line *Line) {
	switch {
	case line.Reference == "":
		l.Unread++
	case line.Error != "":
		l.Failed++
	default:
		l.Done++
	}
	line.Done, line.Failed, line.Unread = l.Done, l.Failed, l.Unread
}

func pullOnce(ctx context.Context, secrets *secrets, suffix string) Line {
	line := Line{Time: time.Now().UTC()}
	a, read, err := secrets.get(ctx)
	if err != nil {
		line.Error = err.Error()
		return line
	}
	line.Address, line.Reference = a.base(), a.base()+suffix
	line.Age = time.Since(read).Milliseconds()
	started := time.Now()
	line.Blobs, line.Bytes, err = pull(ctx, a, line.Reference)
	line.Took = time.Since(started).Milliseconds()
	if err != nil {
		line.Error = err.Error()
	}
	return line
}
