package regauth

import (
	"errors"
	"net/url"
	"testing"
)

func TestValidateHop(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"https://registry.example.com", "https://auth.example.com/token", true},
		{"https://registry.example.com", "https://10.0.0.7:8443/token", true},
		{"https://registry.example.com", "http://auth.example.com/token", true}, // who cares for the scheme says so himself
		{"https://registry.example.com", "https://169.254.169.254/token", false},
		{"https://registry.example.com", "https://[fe80::1]/token", false},
		{"https://registry.example.com", "https://[::ffff:169.254.169.254]/token", false},
		{"https://registry.example.com", "https://0.0.0.0/token", false},
		{"https://registry.example.com", "https://127.0.0.1/token", false},
		{"https://registry.example.com", "https://[::ffff:127.0.0.1]/token", false},
		{"https://registry.example.com", "https://100.100.100.200/latest", false},
		{"https://registry.example.com", "https://192.168.1.2/token", true},
		{"https://registry.example.com", "http://168.63.129.16/machine", false},
		{"https://registry.example.com", "http://192.0.0.192/latest", false},
		{"https://registry.example.com", "http://[fd00:ec2::254]/latest", false},
		{"https://registry.example.com", "http://[fd20:ce::254]/computeMetadata", false},
		{"https://registry.example.com", "http://[fd00:42::42]/conf", false},
		{"https://registry.example.com", "http://[64:ff9b::a9fe:a9fe]/latest", false},
		{"https://registry.example.com", "http://[64:ff9b::a83f:8110]/machine", false},
		{"https://registry.example.com", "http://[2002:7f00:1::1]/", false},
		{"https://registry.example.com", "http://[::a9fe:a9fe]/", false},
		{"https://registry.example.com", "http://[ff02::1]/", false},
		{"https://registry.example.com", "http://224.0.0.1/", false},
		{"https://registry.example.com", "http://255.255.255.255/", false},
		{"https://registry.example.com", "http://0.1.2.3/", false},
		{"https://registry.example.com", "https://[64:ff9b::5db8:d822]/token", true},
		{"https://registry.example.com", "https://[fd00::7]/token", true},
		{"https://registry.example.com", "https://[fd20::7]/token", true},
		{"https://registry.example.com", "https://168.63.129.17/token", true},
		{"https://10.0.0.2:5000", "http://localhost:10255/pods", false},
		{"https://registry.example.com", "https://LocalHost./token", false},
		{"https://registry.example.com", "https://a.localhost/token", false},
		{"https://registry.example.com", "https://ip6-localhost/token", false},
		{"https://127.0.0.1:5000", "https://localhost/token", true},
		{"https://127.0.0.1:5000", "https://169.254.169.254/token", false},
		{"https://localhost:5000", "https://127.0.0.1/token", true},
		{"https://127.0.0.1:5000", "https://127.0.0.1:5001/token", true},
		{"https://registry.example.com", "https://user:secret@auth.example.com/token", false},
		{"https://registry.example.com", "file:///etc/passwd", false},
		{"https://registry.example.com", "https:opaque", false},
		{"https://registry.example.com", "/relative", false},
	} {
		from, err := url.Parse(tc.from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := url.Parse(tc.to)
		if err != nil {
			t.Fatal(err)
		}
		if err := ValidateHop(from, to); (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrForbiddenHop) {
			t.Errorf("%s -> %s: %v", tc.from, tc.to, err)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"https://a", "https://a:443/x", true},
		{"http://a", "http://a:80", true},
		{"https://a:5000", "https://a:5001", false},
		{"https://a", "http://a", false},
		{"https://a", "https://b", false},
		{"https://a.example.com", "https://A.Example.com:443/x", true},
	} {
		a, errA := url.Parse(tc.a)
		b, errB := url.Parse(tc.b)
		if errA != nil || errB != nil || SameOrigin(a, b) != tc.same {
			t.Errorf("%s, %s: %v", tc.a, tc.b, !tc.same)
		}
	}
}
