package machine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Logins are the credentials with which a kubelet would pull an image for a pod
// with these pull secrets, read now, in the kubelet's order: longest key first.
// There is always one; without any that fits, it is anonymous.
func Logins(ctx context.Context, reader client.Reader, namespace string, secrets []string, image string) ([]Login, error) {
	type entry struct {
		key   string
		login Login
	}
	var fitting []entry
	for _, name := range secrets {
		var secret corev1.Secret
		err := reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &secret)
		if apierrors.IsNotFound(err) {
			continue // as the kubelet does
		}
		if err != nil {
			return nil, fmt.Errorf("read pull secret %s/%s: %w", namespace, name, err)
		}
		config, err := parseDockerConfig(secret.Data[corev1.DockerConfigJsonKey])
		if err != nil {
			return nil, fmt.Errorf("pull secret %s/%s: %w", namespace, name, err)
		}
		for key, login := range config {
			if covers(key, image) {
				fitting = append(fitting, entry{key, login})
			}
		}
	}
	slices.SortStableFunc(fitting, func(a, b entry) int { return strings.Compare(b.key, a.key) })
	var logins []Login
	for _, e := range fitting {
		if !slices.Contains(logins, e.login) {
			logins = append(logins, e.login)
		}
	}
	if len(logins) == 0 {
		logins = []Login{{}}
	}
	return logins, nil
}

// covers reports whether a key of a docker config is for the image: the same
// host, and its path a prefix of the image's.
func covers(key, image string) bool {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ := strings.Cut(strings.TrimSuffix(key, "/"), "/")
	imageHost, imagePath, _ := strings.Cut(image, "/")
	return host == imageHost && strings.HasPrefix(imagePath, path)
}

func parseDockerConfig(data []byte) (map[string]Login, error) {
	var config struct {
		Auths map[string]struct{ Username, Password, Auth string }
	}
	if len(data) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("parse .dockerconfigjson: %w", err)
	}
	logins := map[string]Login{}
	for key, a := range config.Auths {
		login := Login{Username: a.Username, Password: a.Password}
		if a.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return nil, fmt.Errorf("parse auth of %s: %w", key, err)
			}
			login.Username, login.Password, _ = strings.Cut(string(plain), ":")
		}
		logins[key] = login
	}
	return logins, nil
}

func secretNames(spec corev1.PodSpec) []string {
	var names []string
	for _, s := range spec.ImagePullSecrets {
		names = append(names, s.Name)
	}
	return names
}
