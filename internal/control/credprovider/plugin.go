package credprovider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	plugin "k8s.io/kubelet/pkg/apis/credentialprovider/v1"

	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	pluginTime = time.Minute // as the kubelet
	mostAnswer = 64 << 10
	mostStderr = 4 << 10
	// drainTime is for pipes that a child of the plugin holds open.
	drainTime = time.Second
)

// answer is what of a plugin's answer is about one image.
type answer struct {
	upstream.Credentials
	life    time.Duration // 0: not known
	secrets []string      // all passwords in it, also those that are not taken
}

// ask runs the plugin. Its errors quote nothing that the plugin says: it handles a
// secret, and may say it.
func (p Provider) ask(ctx context.Context, image string, stderr io.Writer) (answer, error) {
	request := plugin.CredentialProviderRequest{Image: image}
	request.APIVersion, request.Kind = p.APIVersion, "CredentialProviderRequest"
	in, err := json.Marshal(request)
	if err != nil {
		return answer{}, fmt.Errorf("encode request: %w", err)
	}
	out, err := p.run(ctx, in, stderr)
	if err != nil {
		return answer{}, err
	}
	var response plugin.CredentialProviderResponse
	if json.Unmarshal(out, &response) != nil {
		return answer{}, errors.New("the plugin answers what is no JSON of a CredentialProviderResponse")
	}
	if response.APIVersion != p.APIVersion || response.Kind != "CredentialProviderResponse" {
		return answer{}, fmt.Errorf("the plugin answers with another apiVersion or kind than %q and %q", p.APIVersion, "CredentialProviderResponse")
	}
	chosen, err := p.choose(response, image)
	for _, c := range response.Auth {
		chosen.secrets = append(chosen.secrets, c.Password)
	}
	return chosen, err
}

// choose takes what is about the image, and nothing else: a plugin has no say about
// other registries.
func (p Provider) choose(response plugin.CredentialProviderResponse, image string) (answer, error) {
	key, ok := best(response.Auth, image)
	if !ok {
		return answer{}, fmt.Errorf("the plugin gives no credentials for %s; it gives some for %d other name(s)", image, len(response.Auth))
	}
	a := answer{Credentials: upstream.Credentials(response.Auth[key]), life: p.DefaultCacheDuration.Duration}
	if response.CacheDuration != nil {
		a.life = response.CacheDuration.Duration
	}
	switch problem := a.Problem(); {
	case problem != "":
		return answer{}, errors.New("the plugin gives credentials that no registry can be shown: " + problem)
	case a.Username == "" || a.Password == "":
		return answer{}, errors.New("the plugin gives an empty user name or password")
	case a.life < 0:
		return answer{}, errors.New("the plugin gives a negative cacheDuration")
	}
	return a, nil
}

// run runs the plugin with all that it has started, and ends all of it.
func (p Provider) run(ctx context.Context, in []byte, stderr io.Writer) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	out := &bounded{most: mostAnswer, over: cancel}
	cmd := exec.CommandContext(limited, p.path, p.Args...)
	cmd.Env = os.Environ() // as the kubelet: what clouds put into a pod is there
	for _, e := range p.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), out, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = drainTime
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // whom it left; most often there is nobody
	}
	var status *exec.ExitError
	switch {
	case out.full:
		return nil, fmt.Errorf("the plugin answers more than %d bytes", mostAnswer)
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("the plugin does not answer within %v", p.limit)
	case errors.As(err, &status):
		return nil, fmt.Errorf("the plugin ends with %s", status.ProcessState)
	case err != nil:
		return nil, fmt.Errorf("run the plugin: %w", err)
	}
	return out.kept, nil
}

// bounded keeps so many bytes, and says if there are more. It is no bytes.Buffer: that
// would be asked to read all by itself.
type bounded struct {
	kept []byte
	most int
	full bool
	over func() // may be nil
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.full = b.full || len(p) > b.most-len(b.kept); b.full && b.over != nil {
		b.over()
	}
	b.kept = append(b.kept, p[:min(len(p), b.most-len(b.kept))]...)
	return len(p), nil
}

// redact takes the passwords out of a text, and the beginning of one where the text was
// cut.
func (a answer) redact(text string) string {
	cut := len(text) == mostStderr
	for _, secret := range slices.DeleteFunc(a.secrets, func(s string) bool { return s == "" }) {
		text = strings.ReplaceAll(text, secret, "redacted")
		for n := len(secret) - 1; cut && n > 0; n-- {
			text = strings.TrimSuffix(text, secret[:n])
		}
	}
	return text
}

// Diagnose asks the plugins for an image, and tells people what each says, its stderr
// too, without the password. It is an error if none gives credentials.
func Diagnose(ctx context.Context, providers []Provider, image string) (string, error) {
	var told strings.Builder
	found := false
	for _, p := range providers {
		if !p.about(image) {
			continue
		}
		said := &bounded{most: mostStderr}
		a, err := p.ask(ctx, image, said)
		line := "  " + foreign.Line(fmt.Sprint(err), foreign.Sentence)
		if err == nil {
			found = true
			line = fmt.Sprintf("  credentials of user %s, a password of %d bytes, good for %v", foreign.Line(a.Username, foreign.Word), len(a.Password), a.life)
		}
		told.WriteString("provider " + p.Name + ", " + p.path + "\n" + line + "\n")
		if text := a.redact(string(said.kept)); text != "" {
			told.WriteString("  on stderr it says:\n" + foreign.Text(text, mostStderr) + "\n")
		}
	}
	if !found {
		return told.String(), fmt.Errorf("no provider gives credentials for %s", image)
	}
	return told.String(), nil
}
