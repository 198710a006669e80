package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Codes of OCI errors that we answer with.
const (
	CodeNameUnknown     = "NAME_UNKNOWN"
	CodeNameInvalid     = "NAME_INVALID"
	CodeManifestUnknown = "MANIFEST_UNKNOWN"
	CodeManifestInvalid = "MANIFEST_INVALID"
	CodeBlobUnknown     = "BLOB_UNKNOWN"
	CodeDigestInvalid   = "DIGEST_INVALID"
	CodeUnauthorized    = "UNAUTHORIZED"
	CodeUnsupported     = "UNSUPPORTED"
	CodeTooManyRequests = "TOOMANYREQUESTS"
	// CodeUnknown and CodeUnavailable are distribution's, not the
	// specification's, which has none for a failed upstream.
	CodeUnknown     = "UNKNOWN"
	CodeUnavailable = "UNAVAILABLE"
)

// ociError is an error that knows how to be answered.
type ociError struct {
	status        int
	code, message string
}

func (e *ociError) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.code, e.message) }

// errorBody is the body that the distribution specification prescribes.
type errorBody struct {
	Errors []errorEntry `json:"errors"`
}

type errorEntry struct {
	Code    string `json:"code"`
	Message string `json:"message,omitempty"`
	Detail  any    `json:"detail,omitempty"`
}

// WriteError answers with an OCI error.
func WriteError(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	writeBody(w, r, status, errorBody{Errors: []errorEntry{{Code: code, Message: message}}})
}

func writeOCIError(w http.ResponseWriter, r *http.Request, err error) {
	var e *ociError
	if !errors.As(err, &e) {
		e = &ociError{http.StatusInternalServerError, CodeUnknown, err.Error()}
	}
	WriteError(w, r, e.status, e.code, e.message)
}

func (b errorBody) encoded() []byte {
	data, err := json.Marshal(b)
	if err != nil {
		return []byte(`{"errors":[{"code":"UNKNOWN"}]}`)
	}
	return data
}

func writeBody(w http.ResponseWriter, r *http.Request, status int, body errorBody) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Docker-Distribution-API-Version", "registry/2.0")
	h.Del("Content-Length")
	if status == http.StatusMethodNotAllowed {
		h.Set("Allow", "GET, HEAD") // RFC 9110 demands it
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(body.encoded(), '\n')) // the client may be gone
	}
}
