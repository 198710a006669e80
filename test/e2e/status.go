package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

const (
	system = "d8-system"
	// readyWithin is how long one switch may take here.
	readyWithin = 6 * time.Minute
)

// status is what Secret registry-state tells the user.
type status struct {
	Hash, Mode, Target string
	Conditions         []metav1.Condition
}

// readStatus reads the Secret as the documents' command does; the zero status
// means that there is none.
func (s *story) readStatus(ctx context.Context) (status, error) {
	secret, err := s.secret(ctx, "registry-state")
	if apierrors.IsNotFound(err) {
		return status{}, nil
	}
	if err != nil {
		return status{}, err
	}
	st := status{Hash: string(secret.Data["hash"]), Mode: string(secret.Data["mode"]), Target: string(secret.Data["target_mode"])}
	if err := yaml.Unmarshal(secret.Data["conditions"], &st.Conditions); err != nil {
		return status{}, fmt.Errorf("read conditions: %w", err)
	}
	return st, nil
}

func (s *story) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	var secret corev1.Secret
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: system, Name: name}, &secret); err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return &secret, nil
}

func (st status) condition(kind string) metav1.Condition {
	if i := slices.IndexFunc(st.Conditions, func(c metav1.Condition) bool { return c.Type == kind }); i >= 0 {
		return st.Conditions[i]
	}
	return metav1.Condition{}
}

func (st status) is(kind string, want metav1.ConditionStatus) bool {
	return st.condition(kind).Status == want
}

// waitingFor is the first step that is not done, and what it says.
func (st status) waitingFor() string {
	for _, c := range st.Conditions {
		if c.Status != metav1.ConditionTrue {
			return c.Type + ": " + strings.TrimSpace(c.Message)
		}
	}
	return "no conditions yet"
}

// ready waits until settings other than the last ones are Ready, and tells the
// conditions as they become True.
func (s *story) ready(ctx context.Context, mode string) error {
	began := time.Now()
	told := map[string]bool{}
	said := ""
	err := until(ctx, "Ready", readyWithin, func(ctx context.Context) error {
		st, err := s.readStatus(ctx)
		if err != nil {
			return err
		}
		if st.Hash == "" || st.Hash == s.settled || st.Target != mode {
			return errors.New("the controller has not seen the settings")
		}
		for _, c := range st.Conditions {
			if c.Status == metav1.ConditionTrue && !told[c.Type] {
				told[c.Type] = true
				s.out.say("%6s  ✓ %s  %s", seconds(time.Since(began)), c.Type, firstLine(c.Message))
			}
		}
		if st.is("Ready", metav1.ConditionTrue) {
			s.settled = st.Hash
			return nil
		}
		if w := firstLine(st.waitingFor()); w != said {
			said = w
			s.out.say("%6s  … %s", seconds(time.Since(began)), w)
		}
		return errors.New(st.waitingFor())
	})
	if err != nil {
		return err
	}
	s.took(fmt.Sprintf("Ready (%s, step %s)", mode, s.now.name), time.Since(began))
	return nil
}

func firstLine(text string) string {
	line, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if rest != "" {
		return line + " …"
	}
	return line
}

// waitCondition waits until a condition has a status and a message with all of
// some words, and prints it.
func (s *story) waitCondition(ctx context.Context, kind string, want metav1.ConditionStatus, words ...string) error {
	return until(ctx, fmt.Sprintf("%s to be %s and say %q", kind, want, words), readyWithin/2, func(ctx context.Context) error {
		st, err := s.readStatus(ctx)
		if err != nil {
			return err
		}
		c := st.condition(kind)
		for _, word := range words {
			if !strings.Contains(c.Message, word) {
				return fmt.Errorf("it is %s: %q", c.Status, c.Message)
			}
		}
		if c.Status != want {
			return fmt.Errorf("it is %s: %q", c.Status, c.Message)
		}
		s.out.say("%s is %s: %s", kind, c.Status, strings.TrimSpace(c.Message))
		return nil
	})
}

// showStatus runs the documents' command and returns what it prints, compared
// with the end of an example if there is one at the line.
func (s *story) showStatus(ctx context.Context, line int) (string, error) {
	printed, err := s.run(ctx, docManage, 358)
	if err != nil {
		return "", err
	}
	if line > 0 {
		b := s.block(docManage, line)
		s.compared(b, "the status", compareLast(b.Text, printed))
	}
	return printed, nil
}

// compareConditions compares the whole status with the documents' long example.
func (s *story) compareConditions(printed, host string) {
	b := s.block(docManage, 364)
	s.compared(b, "each condition", compareLines(b.Text, withoutNames(printed),
		opening{"registry.deckhouse.ru", regexp.QuoteMeta(host)}, opening{"157", "[0-9]+"}))
}

// namesInUse is what Final says of images that somebody else than we must move:
// the documents' "additional details".
var namesInUse = regexp.MustCompile(`(?m)message: \|-?\n +Names that are still in use.*\n( +- .*\n)*`)

func withoutNames(printed string) string {
	return namesInUse.ReplaceAllString(colours.ReplaceAllString(printed, ""), "message: \"\"\n")
}
