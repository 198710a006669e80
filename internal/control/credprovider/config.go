package credprovider

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	plugin "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"sigs.k8s.io/yaml"
)

// Of the file, in the kubelet's format.
const (
	configVersion = "kubelet.config.k8s.io/v1"
	configKind    = "CredentialProviderConfig"
)

// config is the file. Package k8s.io/kubelet/config/v1 has the same type, and brings
// all that the kubelet may be configured with.
type config struct {
	metav1.TypeMeta `json:",inline"`
	Providers       []Provider `json:"providers"`
}

// Provider is a plugin, and the images that it is asked for.
type Provider struct {
	Name                 string           `json:"name"`
	MatchImages          []string         `json:"matchImages"`
	DefaultCacheDuration *metav1.Duration `json:"defaultCacheDuration"`
	APIVersion           string           `json:"apiVersion"`
	Args                 []string         `json:"args,omitempty"`
	Env                  []envVar         `json:"env,omitempty"`

	path  string
	limit time.Duration // of one run
}

type envVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Load reads the file that says which plugins there are. Plugins are the files of their
// names in the folder. Without a file there are none. An error names the field.
func Load(file, folder string) ([]Provider, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read credential providers: %w", err)
	}
	var c config
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return nil, fmt.Errorf("read credential providers in %s: %w", file, err)
	}
	if c.APIVersion != configVersion || c.Kind != configKind {
		return nil, fmt.Errorf("%s: apiVersion %q and kind %q: expected %q and %q", file, c.APIVersion, c.Kind, configVersion, configKind)
	}
	for i := range c.Providers {
		p := &c.Providers[i]
		if problem := p.problem(); problem != "" {
			return nil, fmt.Errorf("%s: providers[%d].%s", file, i, problem)
		}
		p.path, p.limit = filepath.Join(folder, p.Name), pluginTime
	}
	return c.Providers, nil
}

// problem is the first field that is wrong, its value, and what would be right.
func (p Provider) problem() string {
	switch {
	case p.Name == "" || p.Name == "." || p.Name == ".." || strings.ContainsAny(p.Name, "/ \t\n"):
		return fmt.Sprintf("name: %q: expected the file name of a plugin", p.Name)
	case len(p.MatchImages) == 0:
		return "matchImages: expected a pattern of images or more, such as *.dkr.ecr.*.amazonaws.com"
	case p.DefaultCacheDuration == nil || p.DefaultCacheDuration.Duration < 0:
		return "defaultCacheDuration: expected for how long credentials are good if the plugin does not say: 6h"
	case p.APIVersion != plugin.SchemeGroupVersion.String():
		return fmt.Sprintf("apiVersion: %q: expected %q", p.APIVersion, plugin.SchemeGroupVersion)
	}
	for _, pattern := range p.MatchImages {
		if !validPattern(pattern) {
			return fmt.Sprintf("matchImages: %q: expected host[:port][/path], with * in the host only", pattern)
		}
	}
	return ""
}
