package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// histogram is how many were at most so long, in milliseconds, as Prometheus counts.
type histogram map[float64]float64

const walFsync = "etcd_disk_wal_fsync_duration_seconds_bucket{le=\""

// fsyncs are those of etcd's log so far.
func (e *runningEtcd) fsyncs(ctx context.Context) (histogram, error) {
	text, err := post(ctx, e.url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	h := histogram{}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, walFsync)
		if !ok {
			continue
		}
		le, count, _ := strings.Cut(rest, "\"} ")
		limit, err := strconv.ParseFloat(le, 64)
		if err == nil {
			h[limit*1000], err = strconv.ParseFloat(strings.TrimSpace(count), 64)
		}
		if err != nil {
			return nil, fmt.Errorf("read etcd's metrics, %q: %w", line, err)
		}
	}
	if len(h) == 0 {
		return nil, fmt.Errorf("etcd does not say how long a sync of its log takes: %.300s", text)
	}
	return h, nil
}

func (h histogram) minus(before histogram) histogram {
	out := histogram{}
	for limit, n := range h {
		out[limit] = n - before[limit]
	}
	return out
}

func (h histogram) count() float64 { return h[math.Inf(1)] }

// quantile is interpolated within a bucket, as histogram_quantile does.
func (h histogram) quantile(q float64) float64 {
	limits := make([]float64, 0, len(h))
	for limit := range h {
		limits = append(limits, limit)
	}
	slices.Sort(limits)
	rank, from, below := q*h.count(), 0.0, 0.0
	for _, limit := range limits {
		if n := h[limit]; n >= rank && n > below {
			if math.IsInf(limit, 1) {
				return from
			}
			return from + (limit-from)*(rank-below)/(n-below)
		}
		from, below = limit, h[limit]
	}
	return 0
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// post asks; with nothing to send it is a GET.
func post(ctx context.Context, url string, body []byte) (string, error) {
	method := http.MethodPost
	if body == nil {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("ask etcd: %w", err)
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		return "", fmt.Errorf("ask etcd: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask etcd: %s: %w", resp.Status, err)
	}
	return string(text), nil
}
