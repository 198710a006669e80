package nodestore

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/store/status"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/node/nodeservices"
	"github.com/d8-registry/registry/internal/node/report"
)

const (
	// answerTime is how long the process may take, and mostAnswer what it may say, in bytes.
	answerTime = 2 * time.Second
	mostAnswer = 64 << 10
)

// Answer is what the process says, as far as it is reported. It is comparable.
type Answer struct {
	Answers, Ready   bool
	Version          string // of the configuration that it runs with
	Generation       int64
	Cached, Wanted   int64
	Missing, Problem string
	Uses
}

// Uses is who serves by what, and who came.
type Uses struct{ Identity, LastUse, LastClients, OldUse string }

// process is the store that runs on this machine. Whoever has the port can be it: on the
// node's network only pods with hostNetwork can, and they are told nothing.
type process struct{ url string }

// ask is never an error: who does not answer as a store does, is none.
func (p process) ask(ctx context.Context) Answer {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return Answer{}
	}
	t := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: mostAnswer} // no proxy, no redirects
	resp, err := t.RoundTrip(req)
	if err != nil {
		return Answer{}
	}
	defer func() { _ = resp.Body.Close() }()
	var s status.Store
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, mostAnswer)).Decode(&s) != nil {
		return Answer{}
	}
	a := Answer{
		Answers: true, Ready: s.Ready, Version: foreign.Line(s.ConfigVersion, foreign.Word), Generation: max(s.Generation, 0),
		Missing: foreign.Line(s.Missing, foreign.Sentence), Problem: foreign.Line(s.Problem, foreign.Sentence),
		Uses: Uses{foreign.Line(s.Identity, foreign.Word), byMinute(s.LastUse), whole(s.LastClients), byMinute(s.OldUse)},
	}
	if d := s.Stored; d != nil {
		a.Wanted = int64(max(d.Pins, 0))
		a.Cached = min(int64(max(d.PinsHere, 0)), a.Wanted)
		if d.PinsOver {
			a.Problem = strings.TrimPrefix(a.Problem+"; the images in use alone leave no room on its disk", "; ")
		}
	}
	return a
}

// seconds are those of a time that a store tells.
var seconds = regexp.MustCompile(`(T[0-9]{2}:[0-9]{2}):[0-9]{2}Z`)

// byMinute has a use be told of once in a minute at most: each is a write of the report.
func byMinute(uses string) string { return whole(seconds.ReplaceAllString(uses, "$1:00Z")) }

// whole leaves out of a list what is too much for a report, and cuts nothing in two.
func whole(list string) string {
	if len(list) > foreign.Word {
		list = list[:max(strings.LastIndexByte(list[:foreign.Word], ','), 0)]
	}
	return foreign.Line(list, foreign.Word)
}

// told is all that a report is made of.
type told struct {
	spec   *v1alpha1.StoreSpec
	config nodeservices.Config
	found  nodeservices.Found
	Answer
	none  error // why the kubelet takes no static pods; nil if it does
	wrong error
}

// wantsDaemonSet says that a DaemonSet is to run the store: once its files are there, so that
// its pod finds them, and from then on whatever happens to them. Somebody who answers while no
// DaemonSet was asked for is a static pod's, whose kubelet is not seen now.
func (t told) wantsDaemonSet() bool {
	written := t.wrong == nil && t.found.State == nodeservices.Written
	return t.none != nil && (t.spec.DaemonSet || written && !t.Answers)
}

// waits is what holds up the version that is wanted; empty for nothing.
func (t told) waits() string {
	switch {
	case t.wrong != nil:
		return report.Brief(t.wrong)
	case t.found.State == nodeservices.CertificateMissing:
		return "it waits for a certificate for the key of this node"
	case t.spec.Approved != t.spec.Version:
		return "version " + t.spec.Version + " waits for approval"
	case t.none == nil && t.spec.DaemonSet:
		return "it waits for the end of its DaemonSet: the kubelet takes static pods"
	case !t.Answers && t.none != nil:
		return "it waits for a DaemonSet: " + report.Brief(t.none)
	case !t.Answers:
		return "it waits for the kubelet to run it"
	case t.Version != t.spec.Version:
		return "it waits for the process of before to end"
	}
	return ""
}

// status is the report. State is about the process: while an older one serves, it is Serving,
// and the message says what holds up the newer one.
func (t told) status() *v1alpha1.StoreStatus {
	s := &v1alpha1.StoreStatus{
		Endpoint: endpointOf(t.config.Pod), Request: t.found.Request, State: v1alpha1.StoreWaiting, DaemonSet: t.wantsDaemonSet(),
		Generation: t.Generation, Cached: t.Cached, Wanted: t.Wanted,
		Identity: t.Identity, LastUse: t.LastUse, LastClients: t.LastClients, OldUse: t.OldUse,
	}
	var says []string
	if why := t.waits(); why != "" {
		says = append(says, why)
	}
	if t.wrong != nil && !errors.Is(t.wrong, errUnread) {
		s.State = v1alpha1.StoreFailing
	}
	if t.Answers {
		if t.Ready {
			s.State, s.Version = v1alpha1.StoreServing, t.Version
		} else if t.Missing != "" {
			says = append(says, t.Missing)
		}
		if t.Problem != "" && t.Problem != t.Missing {
			says = append(says, t.Problem)
		}
	}
	s.Message = strings.Join(says, "; ")
	return s
}
