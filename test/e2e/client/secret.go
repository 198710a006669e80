package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// access is what the Secret says, as the platform's documentation describes it.
type access struct {
	address, path, scheme, ca string
	username, password        string
}

func (a access) base() string { return a.address + a.path }

// secrets reads the Secret, and holds what it read for a while.
type secrets struct {
	client *http.Client
	url    string
	hold   time.Duration
	held   access
	read   time.Time
}

func newSecrets(config *rest.Config, hold time.Duration) (*secrets, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("configure API access: %w", err)
	}
	client.Timeout = 5 * time.Second
	return &secrets{client: client, hold: hold,
		url: strings.TrimSuffix(config.Host, "/") + "/api/v1/namespaces/d8-system/secrets/deckhouse-registry"}, nil
}

// get returns what the Secret says, and when it was read.
func (s *secrets) get(ctx context.Context) (access, time.Time, error) {
	if !s.read.IsZero() && time.Since(s.read) < s.hold {
		return s.held, s.read, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return access{}, time.Time{}, err
	}
	now := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		return access{}, time.Time{}, fmt.Errorf("read Secret deckhouse-registry: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return access{}, time.Time{}, fmt.Errorf("read Secret deckhouse-registry: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return access{}, time.Time{}, fmt.Errorf("read Secret deckhouse-registry: %s", resp.Status)
	}
	a, err := parse(body)
	if err != nil {
		return access{}, time.Time{}, err
	}
	s.held, s.read = a, now
	return a, now, nil
}

// parse never puts a value into its errors.
func parse(body []byte) (access, error) {
	var secret struct {
		Data map[string][]byte `json:"data"`
	}
	if err := json.Unmarshal(body, &secret); err != nil {
		return access{}, errors.New("the answer for Secret deckhouse-registry is no JSON")
	}
	a := access{
		address: string(secret.Data["address"]), path: string(secret.Data["path"]),
		scheme: string(secret.Data["scheme"]), ca: string(secret.Data["ca"]),
	}
	var config struct {
		Auths map[string]struct {
			Username string `json:"username"`
			Password string `json:"password"`
			Auth     []byte `json:"auth"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(secret.Data[".dockerconfigjson"], &config); err != nil {
		return access{}, errors.New("key .dockerconfigjson of Secret deckhouse-registry is no JSON")
	}
	auth, known := config.Auths[a.address]
	if !known {
		return access{}, fmt.Errorf("key .dockerconfigjson of Secret deckhouse-registry has no entry for %q", a.address)
	}
	a.username, a.password = auth.Username, auth.Password
	if a.username == "" {
		a.username, a.password, _ = strings.Cut(string(auth.Auth), ":")
	}
	return a, nil
}
