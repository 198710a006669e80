package cluster

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/internal/foreign"
)

// longestNote is what the API server takes, in bytes. Longer ones it refuses.
const longestNote = 1024

// Events tells users what happened to an object. It must carry no secret. The
// zero value tells nobody.
type Events struct{ Recorder events.EventRecorder }

// Normalf tells of something that needs nobody to act.
func (e Events) Normalf(object client.Object, reason, note string, args ...any) {
	if e.Recorder != nil {
		e.Recorder.Eventf(object, nil, corev1.EventTypeNormal, reason, "Switch", "%s", noteOf(note, args...))
	}
}

// Warningf tells of something that users should act upon.
func (e Events) Warningf(object client.Object, reason, note string, args ...any) {
	if e.Recorder != nil {
		e.Recorder.Eventf(object, nil, corev1.EventTypeWarning, reason, "Report", "%s", noteOf(note, args...))
	}
}

func noteOf(note string, args ...any) string {
	return foreign.Text(fmt.Sprintf(note, args...), longestNote)
}
