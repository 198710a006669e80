package judge

import (
	"encoding/json"
	"net/http"
)

// Tags is nil if the body of a 200 is a list of tags.
func Tags(data []byte) error {
	var list struct {
		Name *string  `json:"name"`
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(data, &list); err != nil || list.Name == nil && list.Tags == nil {
		return noList("tags", data)
	}
	return nil
}

// Referrers is nil if the body of a 200 is a list of referrers, which is an index.
func Referrers(header http.Header, data []byte) error {
	m, err := Read(header, data, "")
	if err != nil || m.Kind != Index {
		return noList("referrers", data)
	}
	return nil
}

func noList(what string, data []byte) error {
	switch said := errorIn(data); {
	case Page(data):
		return errWebPage
	case said != "":
		return Errorf(Nonsense, "answered with an error instead of a list of %s: %s", what, said)
	default:
		return Errorf(Nonsense, "answered with what is no list of %s", what)
	}
}
