package state

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// a world in which a rotation can go on: nobody is away, all is told.
func calm() facts {
	return facts{
		now: noon, idle: 24 * time.Hour, may: true, told: true, published: 12,
		unreached: func(int64) []switchover.Node { return nil },
	}
}

// away are nodes that serve an older generation.
func away(names ...string) func(int64) []switchover.Node {
	return func(generation int64) []switchover.Node {
		var all []switchover.Node
		for _, name := range names {
			all = append(all, switchover.Node{Name: name, Report: switchover.Report{Generation: generation - 1}})
		}
		return all
	}
}

// TestRotationSteps: what a rotation does next, and what it waits for, in each phase.
func TestRotationSteps(t *testing.T) {
	t.Parallel()
	client, node := UserSecretPrefix+UserClient, UserSecretPrefix+UserNode
	long := noon.Add(-25 * time.Hour)
	for _, c := range []struct {
		name   string
		of     string
		was    Rotation
		change func(*facts)
		phase  Phase
		does   task
		says   string // part of the note; empty: none
	}{
		{"nobody asked", client, Rotation{}, func(*facts) {}, "", nothing, ""},
		{"asked", client, Rotation{}, func(f *facts) { f.asked = "1" }, Accepting, makeNew, ""},
		{"asked once, and followed", client, Rotation{Asked: "1"}, func(f *facts) { f.asked = "1" }, "", nothing, ""},
		{"asked again", client, Rotation{Asked: "1"}, func(f *facts) { f.asked = "2" }, Accepting, makeNew, ""},
		{"the annotation is gone", client, Rotation{Asked: "1"}, func(*facts) {}, "", nothing, ""},
		{"asked during a switch", client, Rotation{}, func(f *facts) { f.asked, f.may = "1", false }, "", nothing, "until mode Direct or Proxy is Ready"},
		{"a CA that ends", v1alpha1.SecretPKI, Rotation{}, func(f *facts) { f.due = true }, Given, makeNew, ""},
		{"a CA that ends, during a switch", v1alpha1.SecretPKI, Rotation{}, func(f *facts) { f.due, f.may = true, false }, "", nothing, "waits"},
		{"a CA that has expired, during a switch", v1alpha1.SecretPKI, Rotation{}, func(f *facts) { f.due, f.may, f.useless = true, false, true }, Given, makeNew, ""},

		{"a proxy is behind", client, Rotation{Phase: Accepting}, func(f *facts) { f.behind = []string{"Pod p1", "the store of node a"} }, Accepting, nothing, "for Pod p1, which does not serve what is stored, and 1 more"},
		{"all proxies accept both", client, Rotation{Phase: Accepting}, func(*facts) {}, Given, useNew, ""},
		{"a switch has begun", client, Rotation{Phase: Accepting}, func(f *facts) { f.may = false }, Accepting, nothing, "Ready"},

		{"not in the layout yet", node, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour}, func(f *facts) { f.published = 0 }, Given, nothing, "for the layout"},
		{"clients have no layout", client, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour}, func(f *facts) { f.published = 0 }, "", dropOld, ""},
		{"a node is away", node, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour}, func(f *facts) { f.unreached = away("w3") }, Given, nothing, "for node w3, which serves generation 11"},
		{"many are away", node, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour}, func(f *facts) { f.unreached = away("a", "b", "c", "d", "e") }, Given, nothing, "node c, which serves generation 11, and 2 more"},
		{"a node is away, and clients do not care", client, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour}, func(f *facts) { f.unreached = away("w3") }, "", dropOld, ""},
		{"a pull secret is not written", node, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour}, func(f *facts) { f.told = false }, Given, nothing, "pull secrets"},
		{"a proxy does not know which is old", client, Rotation{Phase: Given}, func(f *facts) { f.behind = []string{"Pod p1"} }, Given, nothing, "for Pod p1"},
		{"all have it just now", node, Rotation{Phase: Given}, func(*facts) {}, Given, nothing, "until nobody has used the old password for 24h0m0s, since 2026-12-01T12:00:00Z"},
		{"the old one was used just now", node, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour, Uses: map[string]string{"p": "x"}}, func(f *facts) { f.uses = map[string]string{"p": "2026-12-01T11:59:00Z 10.0.0.3"} }, Given, nothing, "2026-12-01T12:00:00Z (2026-12-01T11:59:00Z 10.0.0.3)"},
		{"the old one was used long ago", node, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour, Uses: map[string]string{"p": "x"}}, func(f *facts) { f.uses = map[string]string{"p": "x"} }, "", dropOld, ""},
		{"a Pod that told of a use is gone", node, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour, Uses: map[string]string{"p": "x"}}, func(*facts) {}, "", dropOld, ""},
		{"used on a node whose clock is behind", node, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour, Uses: map[string]string{"p": "2099"}}, func(f *facts) { f.uses = map[string]string{"p": "2099", "q": "2026"} }, Given, nothing, "2026-12-01T12:00:00Z (2026)"},
		{"a switch holds the end", node, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour}, func(f *facts) { f.may = false }, Given, nothing, "Ready"},

		{"clients read both CAs", v1alpha1.SecretPKI, Rotation{Phase: Given}, func(*facts) {}, Given, nothing, "24h0m0s to read both CAs"},
		{"clients have read both CAs", v1alpha1.SecretPKI, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour}, func(*facts) {}, Signing, useNew, ""},
		{"a node does not know the new CA", v1alpha1.SecretPKI, Rotation{Phase: Given, Quiet: long, Looked: 25 * time.Hour}, func(f *facts) { f.unreached = away("w3") }, Given, nothing, "w3"},
		{"nobody is waited for with an expired CA", v1alpha1.SecretPKI, Rotation{Phase: Given}, func(f *facts) {
			f.unreached, f.useless, f.told, f.may = away("w3"), true, false, false
		}, Signing, useNew, ""},
		{"a proxy has the old certificate", v1alpha1.SecretPKI, Rotation{Phase: Signing}, func(f *facts) { f.behind = []string{"Pod p1"} }, Signing, nothing, "for Pod p1"},
		{"all proxies have the new certificate", v1alpha1.SecretPKI, Rotation{Phase: Signing}, func(*facts) {}, "", dropOld, ""},
	} {
		f := calm()
		c.change(&f)
		c.was.Of = c.of
		r, does, says := c.was.next(f)
		if r.Phase != c.phase || does != c.does || (c.says == "") != (says == "") || !strings.Contains(says, c.says) || r.Of != c.of {
			t.Errorf("%s: %q, task %d, says %q", c.name, r.Phase, does, says)
		}
		if r.Phase == "" && !reflect.DeepEqual(r, Rotation{Of: c.of, Asked: r.Asked}) {
			t.Errorf("%s: leaves %+v behind", c.name, r)
		}
	}
}

// TestTheOldIsQuietFromItsLastUse: the time begins anew with each use, and does not
// begin before everybody has the new one.
func TestTheOldIsQuietFromItsLastUse(t *testing.T) {
	t.Parallel()
	r := Rotation{Of: UserSecretPrefix + UserNode, Phase: Given}
	f := calm()
	f.unreached = away("w3")
	uses := 0
	step := func(later time.Duration, used bool) (ended bool) {
		f.now, f.passed = f.now.Add(later), later
		if used {
			uses++
			f.uses = map[string]string{"p": fmt.Sprint(uses)}
		}
		var does task
		r, does, _ = r.next(f)
		return does == dropOld
	}
	if step(0, true) || step(48*time.Hour, false) || !r.Quiet.IsZero() {
		t.Fatalf("with a node away: %+v", r)
	}
	f.unreached = away()
	for range 5 {
		if step(23*time.Hour, true) {
			t.Fatal("dropped while it was used")
		}
	}
	if step(23*time.Hour, false) {
		t.Fatal("dropped too early")
	}
	if got := r.due(f); got != time.Hour {
		t.Errorf("looks again in %s", got)
	}
	f.may = false
	if step(0, true); !r.Quiet.Equal(f.now) {
		t.Error("a use during a switch does not count")
	}
	f.may, f.uses = true, nil // its Pod is gone
	if step(23*time.Hour, false) {
		t.Fatal("dropped too early after a switch")
	}
	if !step(time.Hour, false) {
		t.Errorf("not dropped: %+v", r)
	}
}

// TestUsesAreKeptByWhoTells: the clock of one node hides no use that another one tells of.
func TestUsesAreKeptByWhoTells(t *testing.T) {
	t.Parallel()
	i := Identity{Uses: map[string]map[string]string{}}
	for by, all := range map[string]string{"a": "ro 2099 10.0.0.1,node 2026 10.0.0.2", "b": "ro 2026 10.0.0.3", "c": "", "d": "?"} {
		i.AddUses(by, all)
	}
	want := map[string]map[string]string{"ro": {"a": "2099 10.0.0.1", "b": "2026 10.0.0.3"}, "node": {"a": "2026 10.0.0.2"}}
	if !reflect.DeepEqual(i.Uses, want) {
		t.Errorf("%v", i.Uses)
	}
}
