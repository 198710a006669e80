package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

const (
	lookEvery = 100 * time.Millisecond
	// readyWithin is how long one switch may take.
	readyWithin = 2 * time.Minute
	// quietFor is after how long without news a waiting step is shown.
	quietFor = 3 * time.Second
)

// status is what Secret registry-state tells the user.
type status struct {
	Hash, Mode, TargetMode string
	Conditions             []metav1.Condition
}

// readStatus reads the Secret as the documentation's command does; the zero
// status means that there is none.
func (d *demo) readStatus(ctx context.Context) (status, error) {
	var secret corev1.Secret
	err := d.client.Get(ctx, types.NamespacedName{Namespace: "d8-system", Name: "registry-state"}, &secret)
	if apierrors.IsNotFound(err) {
		return status{}, nil
	}
	if err != nil {
		return status{}, fmt.Errorf("read registry-state: %w", err)
	}
	s := status{Hash: string(secret.Data["hash"]), Mode: string(secret.Data["mode"]), TargetMode: string(secret.Data["target_mode"])}
	if err := yaml.Unmarshal(secret.Data["conditions"], &s.Conditions); err != nil {
		return status{}, fmt.Errorf("parse conditions: %w", err)
	}
	return s, nil
}

func (s status) condition(kind string) (metav1.Condition, bool) {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c, true
		}
	}
	return metav1.Condition{}, false
}

func (s status) ready() bool {
	c, ok := s.condition("Ready")
	return ok && c.Status == metav1.ConditionTrue
}

// stepTime is when a step became True, since the phase began.
type stepTime struct {
	Step string
	At   time.Duration
}

// waitReady shows the conditions until Ready is True for settings other than the
// ones with the given hash.
func (d *demo) waitReady(ctx context.Context, p *phase, oldHash string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	v := viewer{demo: d, phase: p, shown: map[string]string{}, news: time.Now()}
	return d.until(ctx, "Ready", func(ctx context.Context) error {
		if d.shown(p) {
			return nil
		}
		s, err := d.readStatus(ctx)
		if err != nil {
			return err
		}
		if s.Hash == oldHash {
			return errors.New("the controller has not seen the settings")
		}
		v.show(s)
		if !s.ready() {
			return errors.New(s.waitingFor())
		}
		return nil
	})
}

// shown is true when a negative control has shown what it is for: pulls fail.
func (d *demo) shown(p *phase) bool {
	return d.options.broken != "" && len(d.recorder.Failed(p.title)) >= enoughFailures
}

// enoughFailures end a negative control.
const enoughFailures = 10

// waitingFor is the first step that is not done, and what it says.
func (s status) waitingFor() string {
	for _, c := range s.Conditions {
		if c.Status != metav1.ConditionTrue {
			return c.Type + ": " + strings.TrimSpace(c.Message)
		}
	}
	return "no conditions yet"
}

// viewer prints each condition once when it becomes True, and what a step waits
// for when there was no news for a while.
type viewer struct {
	demo  *demo
	phase *phase
	shown map[string]string
	news  time.Time
}

func (v *viewer) show(s status) {
	for _, c := range s.Conditions {
		if c.Status == metav1.ConditionTrue && v.shown[c.Type] == "" {
			v.shown[c.Type], v.news = "True", time.Now()
			v.phase.steps = append(v.phase.steps, stepTime{c.Type, time.Since(v.phase.began)})
			v.demo.out.step(v.phase.began, "✓", green, "%-32s %s", c.Type, firstLine(c.Message))
		}
	}
	if waiting := s.waitingFor(); !s.ready() && time.Since(v.news) > quietFor && v.shown["waiting"] != waiting {
		v.shown["waiting"], v.news = waiting, time.Now()
		v.demo.out.step(v.phase.began, "…", yellow, "%s", indented(waiting))
	}
}

// indented is a text of several lines under a line of the screen.
func indented(s string) string {
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n               ")
}

func firstLine(s string) string {
	line, rest, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if rest != "" {
		line += " …"
	}
	return line
}

// until calls f until it returns nil; it ends early when ctx does or something in
// the background failed.
func (d *demo) until(ctx context.Context, what string, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case failure := <-d.failed:
			return failure
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (%w)", what, err, ctx.Err())
		case <-time.After(lookEvery):
		}
	}
}
