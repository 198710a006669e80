package state

import (
	"errors"
	"fmt"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
)

// roomForTexts is for the conditions, which are in the Secret twice, as YAML.
const roomForTexts = 2*switchover.MostTexts + 32<<10

// ErrTooLarge says that the state cannot be stored, although it has next to no text.
var ErrTooLarge = errors.New("the API server refuses it for its size")

// TooLarge says, with the figure, which Secret could not hold a document or what
// follows from it, if layouts are read in schemas up to reads; empty if all fit.
func TooLarge(doc Document, reads int) (string, error) {
	doc.Conditions = nil
	data, err := doc.Encode()
	if err != nil {
		return "", err
	}
	if problem := noRoom(v1alpha1.SecretState, len(data)+roomForTexts); problem != "" {
		return problem, nil
	}
	for role, secret := range []string{switchover.Agents: v1alpha1.SecretLayout, switchover.InClusterProxy: v1alpha1.SecretProxy, switchover.NodeServices: v1alpha1.SecretStore} {
		l := doc.Desired.LayoutOf(switchover.Role(role))
		if l.IsZero() {
			continue
		}
		data, err := layout.EncodeFor(doc.filled(l), reads)
		if err != nil {
			return "", fmt.Errorf("measure layout: %w", err)
		}
		if problem := noRoom(secret, len(data)+roomForRest); problem != "" {
			return problem, nil
		}
	}
	return "", nil
}

func noRoom(secret string, bytes int) string {
	if bytes <= corev1.MaxSecretSize {
		return ""
	}
	return fmt.Sprintf("Secret %s would need %s, and a Secret holds %s", secret, mebibytes(bytes), mebibytes(corev1.MaxSecretSize))
}

// mebibytes is a size as users read it. It is rounded up: what does not fit must not
// look as if it did.
func mebibytes(bytes int) string {
	tenths := (bytes*10 + 1<<20 - 1) >> 20
	if tenths%10 == 0 {
		return fmt.Sprintf("%d MiB", tenths/10)
	}
	return fmt.Sprintf("%d.%d MiB", tenths/10, tenths%10)
}

// etcdRefuses is what etcd says, which the API server passes on as it is.
var etcdRefuses = regexp.MustCompile(`request is too large|larger than max`)

// refusedForSize reports whether the API server, or etcd behind it, refused a write
// because it is too large.
func refusedForSize(err error) bool {
	if apierrors.IsRequestEntityTooLargeError(err) || apierrors.HasStatusCause(err, metav1.CauseType("FieldValueTooLong")) {
		return true
	}
	var status apierrors.APIStatus
	return errors.As(err, &status) && etcdRefuses.MatchString(status.Status().Message)
}

// shortened are the same conditions with texts of at most so many bytes.
func shortened(all []metav1.Condition, most int) []metav1.Condition {
	var cut []metav1.Condition
	for _, c := range all {
		c.Message = foreign.Text(c.Message, most)
		cut = append(cut, c)
	}
	return cut
}

func sizeOf(secret *corev1.Secret) int {
	bytes := 0
	for _, value := range secret.Data {
		bytes += len(value)
	}
	return bytes
}

// cutMessage says that texts were cut, for users.
func cutMessage(refused, most int) string {
	how := "left out"
	if most > 0 {
		how = fmt.Sprintf("cut to %d bytes", most)
	}
	return fmt.Sprintf("The messages of the conditions were %s: Secret %s would need %s, which the API server refuses.",
		how, v1alpha1.SecretState, mebibytes(refused))
}
