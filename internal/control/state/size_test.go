package state

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// TestTooLarge: which Secret is too small, and by how much.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		doc   Document
		reads int
		want  string
	}{
		"small":                          {someDocument(), layout.Schema, ""},
		"20 by 20":                       {withPasswords(20, 64), layout.Newest, ""},
		"20 by 20, 4 KiB each":           {withCAs(t, 20, 4<<10), layout.Newest, ""},
		"20 by 20, keys of Google Cloud": {withPasswords(20, 2400), layout.Newest, ""},
		"the same for an older agent":    {withPasswords(20, 2400), layout.Schema, "Secret registry-bashible-config would need 2.4 MiB, and a Secret holds 1 MiB"},
		"too much in any form":           {withPasswords(30, 30000), layout.Newest, "Secret registry-state would need 1.3 MiB, and a Secret holds 1 MiB"},
	} {
		t.Logf("%s: a state of %d KiB", name, len(encoded(t, c.doc))>>10)
		got, err := TooLarge(c.doc, c.reads)
		if err != nil || (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

func TestMebibytes(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int]string{0: "0 MiB", 1: "0.1 MiB", 1 << 20: "1 MiB", 1<<20 + 1: "1.1 MiB", 2 << 20: "2 MiB", 5 << 18: "1.3 MiB"} {
		if got := mebibytes(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}

// TestRefusedForSize: the ways to say that a write is too large; the API server's own
// answer is in TestAWriteRefusedForSizeIsTriedWithLessText.
func TestRefusedForSize(t *testing.T) {
	t.Parallel()
	kind := schema.GroupKind{Kind: "Secret"}
	long := field.ErrorList{field.TooLong(field.NewPath("data"), "", 1<<20)}
	for err, want := range map[error]bool{
		nil: false,
		errors.New("etcdserver: request is too large"):                                                  false, // of nobody that we asked
		apierrors.NewInvalid(kind, v1alpha1.SecretState, long):                                          true,
		apierrors.NewInvalid(kind, v1alpha1.SecretState, nil):                                           false,
		apierrors.NewRequestEntityTooLargeError("limit is 3145728"):                                     true,
		apierrors.NewInternalError(errors.New("etcdserver: request is too large")):                      true,
		apierrors.NewInternalError(errors.New("rpc error: trying to send message larger than max (2)")): true,
		apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no")):                            false,
	} {
		if got := refusedForSize(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

// limited is an API server that refuses what is larger than most.
type limited struct {
	client.Client
	most, refused int
}

func (l *limited) Create(_ context.Context, object client.Object, _ ...client.CreateOption) error {
	if secret, ok := object.(*corev1.Secret); ok && sizeOf(secret) > l.most {
		l.refused++
		return apierrors.NewRequestEntityTooLargeError("limit")
	}
	return nil
}

// TestARefusedSizeIsNotSentAgain, until there is less to send.
func TestARefusedSizeIsNotSentAgain(t *testing.T) {
	t.Parallel()
	server := &limited{most: 12 << 10}
	s := NewStore(&cluster.Client{Client: server}, "", Rotations{})
	for i, c := range []struct {
		text, refused int
		cut           bool
	}{
		{12 << 10, 1, true}, // the first one is sent
		{12 << 10, 1, true},
		{13 << 10, 1, true},
		{2 << 10, 1, false}, // there is less
		{12 << 10, 1, true},
	} {
		doc := someDocument()
		doc.Conditions[0].Message = strings.Repeat("x", c.text)
		if err := s.Save(t.Context(), Stored{}, &doc, switchover.Observed{}); err != nil || server.refused != c.refused || (s.Cut() != "") != c.cut {
			t.Errorf("step %d: %d refused, says %q: %v", i, server.refused, s.Cut(), err)
		}
	}
}
