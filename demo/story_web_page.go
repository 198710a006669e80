package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// webServer answers 200 and a page to everything.
const webServer = "web.example.test"

// storyProtocol is the protocol of a story's controller; empty: the standard one. With
// "check" it checks no image below path unchecked.
func storyProtocol(story string) string {
	if story == "web-page" {
		return "check"
	}
	return ""
}

// webPage shows that a web server does not become the registry: the image check says
// so, and where that is switched off the nodes do. The old registry stays.
func webPage(ctx context.Context, d *demo) error {
	err := d.tellWebPage(ctx)
	return errors.Join(err, d.verdict())
}

func (d *demo) tellWebPage(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.switched(ctx, "Direct on A", "direct-a.yaml"); err != nil {
		return err
	}
	if err := d.play(ctx, &phase{title: "a web server", short: true, direct: true}, d.webPageIsChecked); err != nil {
		return err
	}
	if err := d.play(ctx, &phase{title: "a web server, not checked", short: true, direct: true}, d.webPageIsProved); err != nil {
		return err
	}
	return d.switched(ctx, "Direct on B", "direct-b.yaml")
}

func (d *demo) webPageIsChecked(ctx context.Context, p *phase) error {
	before, err := d.registryNodes(ctx)
	if err != nil {
		return err
	}
	if err := d.apply(ctx, "web-checked.yaml"); err != nil {
		return err
	}
	if err := d.waitFalse(ctx, p, v1alpha1.ConditionImages, "web page"); err != nil {
		return err
	}
	if err := d.enoughPulls(ctx, p); err != nil {
		return err
	}
	after, err := d.registryNodes(ctx)
	p.expect("no RegistryNode changed", before == after, "before: %s; after: %s", before, after)
	return err
}

func (d *demo) webPageIsProved(ctx context.Context, p *phase) error {
	if err := d.apply(ctx, "web-unchecked.yaml"); err != nil {
		return err
	}
	d.out.step(p.began, "→", bold, "the image check of this controller is switched off for %s", webServer)
	if err := d.waitFalse(ctx, p, v1alpha1.ConditionTransition, "web page"); err != nil {
		return err
	}
	if err := d.enoughPulls(ctx, p); err != nil {
		return err
	}
	s, err := d.readStatus(ctx)
	if err != nil {
		return err
	}
	final, _ := s.condition(v1alpha1.ConditionFinal)
	p.expect("Final does not come", final.Status != metav1.ConditionTrue, "it says %s", final.Message)
	layout, err := d.secret(ctx, v1alpha1.SecretLayout)
	if err != nil {
		return err
	}
	for _, data := range layout.Data {
		p.expect("nodes keep the old registry", strings.Contains(string(data), registryA), "the layout does not name %s", registryA)
	}
	return nil
}

// waitFalse waits until a condition is False and says something.
func (d *demo) waitFalse(ctx context.Context, p *phase, kind, says string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return d.until(ctx, kind+" that says "+says, func(ctx context.Context) error {
		s, err := d.readStatus(ctx)
		if err != nil {
			return err
		}
		c, _ := s.condition(kind)
		if c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, says) {
			return fmt.Errorf("it is %s and says %q", c.Status, c.Message)
		}
		d.out.step(p.began, "✓", green, "%s is False: %s", kind, strings.TrimSpace(c.Message))
		return nil
	})
}
