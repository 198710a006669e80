package nodestore

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
	"github.com/d8-registry/registry/internal/datapath/store/status"
	"github.com/d8-registry/registry/internal/node/nodeservices"
	"github.com/d8-registry/registry/internal/node/report"
)

// TestWithoutAStore: a node that runs none, and never did, is read and written as before:
// nothing of the API server, of its files, of a process.
func TestWithoutAStore(t *testing.T) {
	t.Parallel()
	n := newNode(t, Place{})
	n.secret, n.process = someSecret(), serving()
	go n.Run(t.Context())
	for _, leave := range []bool{false, true} {
		for range 3 {
			if s, retry := n.pass(nil, leave); s != nil || retry {
				t.Errorf("%+v, again: %v", s, retry)
			}
		}
	}
	n.Converge(t.Context(), &report.Report{})
	<-time.After(20 * n.Every)
	if did := n.done(); len(did) > 0 || n.woken.Load() > 0 {
		t.Errorf("it did %q, and woke %d times", did, n.woken.Load())
	}
	// The same, while it is to leave with a store ordered.
	if s, _ := n.pass(someSpec(), true); s != nil || len(n.done()) > 0 {
		t.Errorf("%+v", s)
	}
}

// TestStates is what is reported of what.
func TestStates(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change  func(n *node, s *v1alpha1.StoreSpec)
		state   string
		version string
		says    string
		applied string // the last thing that was applied
	}{
		"it serves":           {func(*node, *v1alpha1.StoreSpec) {}, v1alpha1.StoreServing, "v1", "", `apply "/etc/kubernetes/manifests" v1`},
		"nothing answers":     {func(n *node, _ *v1alpha1.StoreSpec) { n.process = nil }, v1alpha1.StoreWaiting, "", "it waits for the kubelet", `apply "/etc/kubernetes/manifests" v1`},
		"not ready":           {func(n *node, _ *v1alpha1.StoreSpec) { n.process.Ready, n.process.Missing = false, "no disk" }, v1alpha1.StoreWaiting, "", "no disk", `apply "/etc/kubernetes/manifests" v1`},
		"a problem":           {func(n *node, _ *v1alpha1.StoreSpec) { n.process.Problem = "pins: \x1b[2J" }, v1alpha1.StoreServing, "v1", "pins: \ufffd[2J", `apply "/etc/kubernetes/manifests" v1`},
		"pins over quota":     {func(n *node, _ *v1alpha1.StoreSpec) { n.process.Stored.PinsOver = true }, v1alpha1.StoreServing, "v1", "no room", `apply "/etc/kubernetes/manifests" v1`},
		"the one of before":   {func(n *node, _ *v1alpha1.StoreSpec) { n.process.ConfigVersion = "v0" }, v1alpha1.StoreServing, "v0", "the process of before", `apply "/etc/kubernetes/manifests" v1`},
		"not approved":        {func(n *node, s *v1alpha1.StoreSpec) { s.Approved = ""; n.process = nil }, v1alpha1.StoreWaiting, "", "version v1 waits for approval", `apply "" v1`},
		"another is approved": {func(n *node, s *v1alpha1.StoreSpec) { s.Approved = "v0"; n.process.ConfigVersion = "v0" }, v1alpha1.StoreServing, "v0", "version v1 waits for approval", `apply "" v1`},
		"no certificate":      {func(n *node, s *v1alpha1.StoreSpec) { s.Certificate = ""; n.process = nil }, v1alpha1.StoreWaiting, "", "a certificate for the key of this node", `apply "/etc/kubernetes/manifests" v1`},
		"no Secret":           {func(n *node, _ *v1alpha1.StoreSpec) { n.secret, n.process = nil, nil }, v1alpha1.StoreWaiting, "", "there is no Secret registry-store", ""},
		"no Secret any more":  {func(n *node, _ *v1alpha1.StoreSpec) { n.secret = nil }, v1alpha1.StoreServing, "v1", "there is no Secret registry-store", ""},
		"no right":            {func(n *node, _ *v1alpha1.StoreSpec) { n.refuses = http.StatusForbidden }, v1alpha1.StoreServing, "v1", "read Secret registry-store: no", ""},
		"refused by files":    {func(n *node, _ *v1alpha1.StoreSpec) { n.secret.Data["layout"] = []byte("refused"); n.process = nil }, v1alpha1.StoreFailing, "", "it is a link", `apply "/etc/kubernetes/manifests" v1`},
		"refused, and serves": {func(n *node, _ *v1alpha1.StoreSpec) { n.secret.Data["layout"] = []byte("refused") }, v1alpha1.StoreServing, "v1", "it is a link", `apply "/etc/kubernetes/manifests" v1`},
		"endpoints no list":   {func(n *node, _ *v1alpha1.StoreSpec) { n.secret.Data["stores-endpoints"] = []byte("{"); n.process = nil }, v1alpha1.StoreFailing, "", "is no list of", ""},
		"endpoints by name": {func(n *node, _ *v1alpha1.StoreSpec) {
			n.secret.Data["stores-endpoints"] = []byte(`["evil.example.com:443"]`)
			n.process = nil
		}, v1alpha1.StoreFailing, "", "no IP and port", ""},
		"a huge Secret": {func(n *node, _ *v1alpha1.StoreSpec) {
			n.secret.Data["more"] = make([]byte, mostContent)
			n.process = nil
		}, v1alpha1.StoreFailing, "", "bytes", ""},
		"no address":    {func(n *node, s *v1alpha1.StoreSpec) { s.Addresses = nil; n.process = nil }, v1alpha1.StoreFailing, "", "no InternalIP", ""},
		"a name as one": {func(n *node, s *v1alpha1.StoreSpec) { s.Addresses = []string{"10.0.0.1", "evil"}; n.process = nil }, v1alpha1.StoreFailing, "", "an address is none", ""},
		"many":          {func(n *node, s *v1alpha1.StoreSpec) { s.Addresses = make([]string, 9); n.process = nil }, v1alpha1.StoreFailing, "", "too many", ""},
		"a variable": {func(n *node, s *v1alpha1.StoreSpec) {
			s.Version, s.Approved = "$(HOST_IP)", "$(HOST_IP)"
			n.process = nil
		}, v1alpha1.StoreFailing, "", "no word", ""},
		"no time":       {func(n *node, s *v1alpha1.StoreSpec) { s.TTL = "soon"; n.process = nil }, v1alpha1.StoreFailing, "", "ttl is no time", ""},
		"below nothing": {func(n *node, s *v1alpha1.StoreSpec) { s.Quota = -2; n.process = nil }, v1alpha1.StoreFailing, "", "below 0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, Place{})
			n.secret, n.process = someSecret(), serving()
			spec := someSpec()
			row.change(n, spec)
			s, retry := n.pass(spec, false)
			if s.State != row.state || s.Version != row.version || !strings.Contains(s.Message, row.says) || (row.says == "") != (s.Message == "") {
				t.Errorf("%+v", s)
			}
			if !retry && row.state != v1alpha1.StoreServing {
				t.Error("it is not tried again")
			}
			applied := ""
			did := n.done()
			for i, d := range did {
				if strings.HasPrefix(d, "apply") {
					applied = d
					if i == 0 || !strings.HasPrefix(did[i-1], "save") {
						t.Errorf("written before it was noted that something is: %q", did)
					}
				}
			}
			if applied != row.applied {
				t.Errorf("%q, want %q", did, row.applied)
			}
			if row.applied != "" && (n.saved != Place{StaticPods: "/etc/kubernetes/manifests"} || s.Endpoint != "10.0.0.1:5001") {
				t.Errorf("%+v, %+v", n.saved, s)
			}
		})
	}
}

// TestWhatItServesBy is what the files are made of.
func TestWhatItServesBy(t *testing.T) {
	t.Parallel()
	c, err := configOf(someSpec())
	if err == nil {
		err = content{data: someSecret().Data}.into(&c)
	}
	if err != nil {
		t.Fatal(err)
	}
	var stores peer.Stores
	if err := json.Unmarshal(c.Stores, &stores); err != nil || stores.Self != "10.0.0.1:5001" || len(stores.Endpoints) != 2 || stores.CA != "CA" {
		t.Errorf("%+v, %v", stores, err)
	}
	if string(c.Layout) != "a layout" || string(c.Users) != "users" || string(c.Pins) != "pins" || c.Pod.TTL != time.Hour || c.Pod.Address != "10.0.0.1" || len(c.Names) != 5 {
		t.Errorf("%+v %q", c.Pod, c.Names)
	}
	alone := someSecret().Data
	delete(alone, "stores-endpoints")
	c.Stores = nil
	if err := (content{data: alone}).into(&c); err != nil || c.Stores != nil {
		t.Errorf("%q, %v", c.Stores, err)
	}
}

// TestItGoes: the pod goes first, the report last, when the process has ended, whatever is known
// after a restart. A node that is left is the same.
func TestItGoes(t *testing.T) {
	t.Parallel()
	const folder = "/etc/kubernetes/manifests"
	for name, row := range map[string]struct {
		place    Place
		reported *v1alpha1.StoreStatus
		noFolder error
		leave    bool
		want     string
		gone     bool
	}{
		"it was told to":                {Place{StaticPods: folder}, &v1alpha1.StoreStatus{}, nil, false, `remove "/etc/kubernetes/manifests"`, true},
		"the module leaves":             {Place{StaticPods: folder}, &v1alpha1.StoreStatus{}, nil, true, `remove "/etc/kubernetes/manifests"`, true},
		"the report is lost":            {Place{StaticPods: folder}, nil, nil, false, `remove "/etc/kubernetes/manifests"`, true},
		"the folder was another":        {Place{StaticPods: "/old"}, nil, nil, false, `remove "/old"`, true},
		"what was known is lost":        {Place{}, &v1alpha1.StoreStatus{Request: "r"}, nil, false, `remove "/etc/kubernetes/manifests"`, true},
		"the kubelet is restarted":      {Place{StaticPods: folder}, nil, nodeservices.ErrNoStaticPods, false, `remove "/etc/kubernetes/manifests"`, true},
		"there never were static pods":  {Place{}, &v1alpha1.StoreStatus{}, nodeservices.ErrNoStaticPods, false, "", true},
		"a DaemonSet's":                 {Place{DaemonSet: true}, nil, nodeservices.ErrNoStaticPods, false, `remove ""`, true},
		"a DaemonSet's, and it is lost": {Place{}, &v1alpha1.StoreStatus{Request: "r", DaemonSet: true}, nodeservices.ErrNoStaticPods, false, `remove ""`, true},
		"lost, and the kubelet away":    {Place{}, &v1alpha1.StoreStatus{Request: "r"}, nodeservices.ErrNoStaticPods, false, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, row.place)
			n.noFolder = row.noFolder
			n.own = &v1alpha1.RegistryNode{Status: v1alpha1.RegistryNodeStatus{Store: row.reported}}
			n.process = serving()
			s, retry := n.pass(nil, row.leave)
			if s == nil || !retry || (row.gone && s.State != v1alpha1.StoreWaiting) || (!row.gone && s.State != v1alpha1.StoreFailing) {
				t.Errorf("while it runs: %+v", s)
			}
			if did := strings.Join(n.done(), ", "); !strings.HasPrefix(did, row.want) || strings.Contains(did, "save") || strings.Contains(did, "secret") {
				t.Errorf("%q", did)
			}
			n.process = nil
			s, _ = n.pass(nil, row.leave)
			if (s == nil) != row.gone || (row.gone && n.saved != Place{}) {
				t.Errorf("%+v, %+v", s, n.saved)
			}
			n.done()
			if s, _ = n.pass(nil, row.leave); row.gone && (s != nil || len(n.done()) > 0) {
				t.Errorf("it is never over: %+v", s)
			}
		})
	}
}

// TestAnotherFolder: where the kubelet looks elsewhere, the pod of before goes first.
func TestAnotherFolder(t *testing.T) {
	t.Parallel()
	n := newNode(t, Place{StaticPods: "/old"})
	n.secret = someSecret()
	n.pass(someSpec(), false)
	if did := strings.Join(n.done(), ", "); !strings.Contains(did, `remove "/old", save "/etc/kubernetes/manifests", apply "/etc/kubernetes/manifests"`) {
		t.Errorf("%q", did)
	}
	n.noFolder = nodeservices.ErrNoStaticPods // the kubelet is being restarted
	n.pass(someSpec(), false)
	if did := strings.Join(n.done(), ", "); !strings.Contains(did, `apply "/etc/kubernetes/manifests"`) || strings.Contains(did, "remove") {
		t.Errorf("%q", did)
	}
}

// TestChangesWake: another Secret, and what the process says anew, are taken over at once; what
// is as it was wakes nobody.
func TestChangesWake(t *testing.T) {
	t.Parallel()
	n := newNode(t, Place{})
	n.secret, n.process = someSecret(), serving()
	n.pass(someSpec(), false)
	go n.Run(t.Context())
	<-time.After(20 * n.Every)
	if n.woken.Load() > 0 {
		t.Fatal("woken by nothing")
	}
	for what, change := range map[string]func(){
		"Secret": func() { n.secret.ResourceVersion = "8" }, "generation": func() { n.process.Generation = 6 },
	} {
		n.mu.Lock()
		change()
		n.mu.Unlock()
		for deadline := time.Now().Add(20 * time.Second); n.woken.Load() == 0; <-time.After(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody hears of another", what)
			}
		}
		n.pass(someSpec(), false)
		<-time.After(2 * n.Every) // a look that had begun
		n.woken.Store(0)
	}
}

// TestAnswersAreBounded: whoever has the port is believed no more than a store may say.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("\x1b[2J", 1000)
	for name, row := range map[string]struct {
		body string
		want Answer
	}{
		"numbers": {`{"generation":-5,"stored":{"pins":3,"pinsHere":9}}`, Answer{Answers: true, Cached: 3, Wanted: 3}},
		"none":    {`<html>`, Answer{}},
		"endless": {`{"missing":"` + strings.Repeat("x", mostAnswer) + `"}`, Answer{}},
		"below":   {`{"stored":{"pins":-3,"pinsHere":-9}}`, Answer{Answers: true}},
		"uses": {
			`{"identity":"ab","lastUse":"2026-12-01T12:34:56Z","lastClients":"10.0.0.1,10.0.0.2","oldUse":"node 2026-12-01T12:34:56Z 10.0.0.3,ro 2026-12-01T12:35:01Z 10.0.0.4"}`,
			Answer{Answers: true, Uses: Uses{"ab", "2026-12-01T12:34:00Z", "10.0.0.1,10.0.0.2", "node 2026-12-01T12:34:00Z 10.0.0.3,ro 2026-12-01T12:35:00Z 10.0.0.4"}},
		},
		"many clients": {
			`{"lastClients":"` + strings.Repeat("10.0.0.1,", 100) + `"}`,
			Answer{Answers: true, Uses: Uses{LastClients: strings.TrimSuffix(strings.Repeat("10.0.0.1,", 28), ",")}},
		},
		"a long client": {`{"lastClients":"` + strings.Repeat("1", 300) + `"}`, Answer{Answers: true}},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(row.body)) }))
		if got := (process{server.URL}).ask(t.Context()); got != row.want {
			t.Errorf("%s: %+v", name, got)
		}
		server.Close()
	}
	text, err := json.Marshal(status.Store{Missing: huge, Problem: huge, ConfigVersion: huge, Identity: huge, LastUse: huge, LastClients: huge, OldUse: huge})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }))
	defer server.Close()
	if a := (process{server.URL}).ask(t.Context()); len(a.Missing)+len(a.Problem)+len(a.Version)+len(a.Identity)+len(a.LastUse)+len(a.LastClients)+len(a.OldUse) > 1600 || strings.Contains(a.Missing, "\x1b") || !a.Answers {
		t.Errorf("%d bytes", len(a.Missing))
	}
	away := httptest.NewServer(http.RedirectHandler(server.URL, http.StatusFound))
	defer away.Close()
	if a := (process{away.URL}).ask(t.Context()); a.Answers {
		t.Error("it went elsewhere")
	}
}
