package foreign

import (
	"fmt"
	"io"
	"log/slog"
)

// mostLogged is one value of a log line, in bytes.
const mostLogged = 4 << 10

// NewLog is the log of our programs: JSON, in which each text is a Line. JSON itself
// leaves control characters of one byte and changes of direction as they are, and
// takes megabytes.
func NewLog(w io.Writer, level slog.Level) *slog.Logger {
	//nolint:forbidigo // this is where it is made right
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: line}))
}

func line(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Line(a.Value.String(), mostLogged))
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error, fmt.Stringer, []string:
			a.Value = slog.StringValue(Line(fmt.Sprint(v), mostLogged))
		}
	case slog.KindBool, slog.KindDuration, slog.KindFloat64, slog.KindInt64, slog.KindUint64, slog.KindTime, slog.KindGroup, slog.KindLogValuer:
	}
	return a
}
