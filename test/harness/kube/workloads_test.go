package kube

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/d8-registry/registry/test/harness/machine"
)

func TestCountClient(t *testing.T) {
	t.Parallel()
	const log = `{"reference":"a/p:v1","address":"a/p","done":1}
{"reference":"f/s:v1","address":"f/s","error":"EOF","done":1,"failed":1}
{"error":"read Secret: refused","done":1,"failed":1,"unread":1}
{"reference":"f/s:v1","address":"f/s","done":2,"failed":1,"unread":1}
{"reference":"f/s:v1","addr`
	counts, err := countClient(log)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Done != 2 || counts.Failed != 1 || counts.Unread != 1 || len(counts.Failures) != 2 ||
		counts.ByAddress["a/p"] != 1 || counts.ByAddress["f/s"] != 1 || counts.Last.Address != "f/s" {
		t.Errorf("%+v", counts)
	}
	if _, err := countClient("client: no such key\n"); err == nil {
		t.Error("what is no count is taken for one")
	}
}

func TestDigestsAndPullSecret(t *testing.T) {
	t.Parallel()
	c := &Cluster{images: map[string]platformImage{
		"deckhouse": {digest: "sha256:1", tag: "v1"}, "web/server": {digest: "sha256:2"}, "web/migrate": {digest: "sha256:3"},
	}}
	text, err := c.digests()
	if err != nil {
		t.Fatal(err)
	}
	var digests map[string]map[string]string
	if err := json.Unmarshal([]byte(text), &digests); err != nil {
		t.Fatal(err)
	}
	if len(digests) != 1 || digests["web"]["server"] != "sha256:2" || digests["web"]["migrate"] != "sha256:3" {
		t.Errorf("images_digests.json is %s", text)
	}
	if by, err := c.Reference("a/p", "deckhouse"); err != nil || by != "a/p:v1" {
		t.Errorf("Deckhouse is %s: %v", by, err)
	}
	if by, err := c.Reference("a/p", "web/server"); err != nil || by != "a/p@sha256:2" {
		t.Errorf("a component is %s: %v", by, err)
	}
	if _, err := c.Reference("a/p", "web/none"); err == nil {
		t.Error("an image that is not there has a reference")
	}
	secret, err := dockerConfig(&machine.Registry{RegistryOptions: machine.RegistryOptions{Host: "a", Users: map[string]string{"u": "p"}}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := base64.StdEncoding.DecodeString(secret)
	if err != nil || string(data) != `{"auths":{"a":{"auth":"dTpw","password":"p","username":"u"}}}` {
		t.Errorf("the pull secret is %s: %v", data, err)
	}
}
