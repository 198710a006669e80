package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"sync"
)

// Download is one blob that a registry sent in full or in part.
type Download struct {
	Client string // IP address
	Agent  string // what the client calls itself
	Digest string
	Bytes  int64
}

// AccessLog reads what a registry wrote about its requests.
type AccessLog struct {
	path string

	mu        sync.Mutex
	offset    int64
	downloads []Download
}

// blobLine is a successful GET of a blob in the Combined Log Format.
var blobLine = regexp.MustCompile(`^([0-9a-fA-F.:]+) - \S+ \[[^\]]+\] "GET /v2/\S+/blobs/(sha256:[0-9a-f]{64})\S* HTTP/[0-9.]+" (?:200|206) ([0-9]+) "[^"]*" "([^"]*)"`)

func newAccessLog(path string) *AccessLog { return &AccessLog{path: path} }

// Downloads returns all blobs sent so far, in order.
func (l *AccessLog) Downloads() ([]Download, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.Open(l.path)
	if err != nil {
		return nil, fmt.Errorf("read access log: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	if _, err := f.Seek(l.offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read access log: %w", err)
	}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return l.downloads, nil // what is left of a line is read next time
		}
		if err != nil {
			return nil, fmt.Errorf("read access log: %w", err)
		}
		l.offset += int64(len(line))
		if m := blobLine.FindStringSubmatch(line); m != nil {
			size, err := strconv.ParseInt(m[3], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("size in access log: %w", err)
			}
			l.downloads = append(l.downloads, Download{Client: m[1], Agent: m[4], Digest: m[2], Bytes: size})
		}
	}
}
