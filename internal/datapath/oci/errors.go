package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/d8-registry/registry/internal/foreign"
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

// MaxError is more than any registry says about an error, in bytes.
const MaxError = 64 << 10

// Error is an error that knows how to be answered.
type Error struct {
	Status        int
	Code, Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Message) }

// ErrorBody is the body that the distribution specification prescribes.
type ErrorBody struct {
	Errors []ErrorEntry `json:"errors"`
}

// ErrorEntry is one error of a body.
type ErrorEntry struct {
	Code    string `json:"code"`
	Message string `json:"message,omitempty"`
	Detail  any    `json:"detail,omitempty"`
}

// WriteError answers with an OCI error.
func WriteError(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	ErrorBody{Errors: []ErrorEntry{{Code: code, Message: message}}}.Write(w, r, status)
}

// Answer answers with what an error of Parse says.
func Answer(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{http.StatusInternalServerError, CodeUnknown, err.Error()}
	}
	WriteError(w, r, e.Status, e.Code, e.Message)
}

// Encoded is the body as JSON.
func (b ErrorBody) Encoded() []byte {
	data, err := json.Marshal(b)
	if err != nil {
		return []byte(`{"errors":[{"code":"UNKNOWN"}]}`)
	}
	return data
}

// Write answers with the body.
func (b ErrorBody) Write(w http.ResponseWriter, r *http.Request, status int) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Docker-Distribution-API-Version", "registry/2.0")
	h.Del("Content-Length")
	if status == http.StatusMethodNotAllowed {
		h.Set("Allow", "GET, HEAD") // RFC 9110 demands it
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(b.Encoded(), '\n')) // the client may be gone
	}
}

// FirstError is the first error that an upstream's body names; empty when there is
// none.
func FirstError(data []byte) string {
	body := ErrorBody{}
	if json.Unmarshal(data, &body) != nil || len(body.Errors) == 0 {
		return ""
	}
	return foreign.Line(strings.TrimSuffix(body.Errors[0].Code+": "+body.Errors[0].Message, ": "), foreign.Word)
}

// NotTheEnd is an error of a body that breaks off, which nobody who looks for io.EOF takes
// for its end: what servers do to their connections is often an io.EOF too.
func NotTheEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s", io.ErrUnexpectedEOF, err.Error())
	}
	return err
}
