package controller

import (
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/upstream"
)

func TestWhatIsDangerousStaysVisible(t *testing.T) {
	t.Parallel()
	secret := upstream.Credentials{Username: "u", Password: "SECRET"}
	for _, c := range []struct {
		target switchover.Target
		want   []string
	}{
		{switchover.Target{Mode: switchover.Direct, Upstream: upstream.Upstream{Host: "r.io", Path: "d8", Scheme: upstream.HTTPS, Credentials: secret}}, nil},
		{switchover.Target{Mode: switchover.Direct, Upstream: upstream.Upstream{Host: "r.io", Path: "d8", Scheme: upstream.HTTP}}, nil},
		{switchover.Target{Mode: switchover.Unmanaged, Upstream: upstream.Upstream{Host: "r.io", Scheme: upstream.HTTPS, Credentials: secret}}, nil},
		{switchover.Target{}, nil},
		{switchover.Target{Mode: switchover.Unmanaged, Upstream: upstream.Upstream{Host: "r.io", Path: "d8", Scheme: upstream.HTTP, Credentials: secret}}, []string{"http://r.io/d8 travels in clear text"}},
		{switchover.Target{Mode: switchover.Direct, Upstream: upstream.Upstream{Host: "r.io", Path: "d8", Scheme: upstream.HTTP, Provided: true}}, []string{"in clear text"}},
		{switchover.Target{Mode: switchover.Direct, Upstream: upstream.Upstream{Host: "r.io", Scheme: upstream.HTTP, Credentials: secret}}, []string{"in clear text", "no path"}},
	} {
		got := dangers(c.target)
		if lines := strings.Split(got, "\n"); got != "" && len(lines) != len(c.want) || got == "" && len(c.want) > 0 || strings.Contains(got, "SECRET") {
			t.Errorf("%s %s: %q", c.target.Mode, c.target.Upstream, got)
		}
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s %s: %q lacks %q", c.target.Mode, c.target.Upstream, got, want)
			}
		}
	}
}
