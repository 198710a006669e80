package layout

import (
	"errors"
	"maps"
	"slices"

	"github.com/d8-registry/registry/internal/upstream"
)

// mostRepeated is how many bytes of CAs and credentials schema 1 may repeat before
// schema 2 is worth it. Layouts of registries without a CA of their own stay in the
// documented form.
const mostRepeated = 1 << 10

// refLength is how much of a SHA-256 names an entry of a table.
const refLength = 32

// EncodeFor is Encode for readers that know schemas up to reads. With schema 2 a CA
// and credentials stand once, however many names and registries there are.
func EncodeFor(l Layout, reads int) ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, encoding(err)
	}
	doc := l.document()
	if reads >= Newest && doc.repeats() > mostRepeated {
		doc.fold()
	}
	return l.encode(doc)
}

// accesses calls with every access of the document, always in the same order.
func (d *document) accesses(with func(*access)) {
	for _, r := range []*registry{d.Active, d.Target} {
		if r != nil {
			with(&r.access)
		}
	}
	if d.SecondWay != nil {
		with(&d.SecondWay.access)
	}
	if d.Stores != nil {
		with(d.Stores)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Hosts)) {
		for i := range d.Hosts[name].Mirrors {
			with(&d.Hosts[name].Mirrors[i].access)
		}
	}
}

// repeats is how many bytes of CAs and credentials are in the document once more.
func (d *document) repeats() int {
	bytes := 0
	cas, auths := map[string]bool{}, map[auth]bool{}
	d.accesses(func(m *access) {
		if cas[m.CA] {
			bytes += len(m.CA)
		}
		cas[m.CA] = true
		if a := m.Auth; a != nil {
			if auths[*a] {
				bytes += len(a.Username) + len(a.Password) + len(a.Auth)
			}
			auths[*a] = true
		}
	})
	return bytes
}

// fold makes a document of schema 2 of one of schema 1.
func (d *document) fold() {
	d.Schema, d.CAs, d.Auths = Newest, map[string]string{}, map[string]auth{}
	d.accesses(func(m *access) {
		if m.CA != "" {
			m.CARef = upstream.Digest(m.CA)[:refLength]
			d.CAs[m.CARef], m.CA = m.CA, ""
		}
		if m.Auth != nil {
			m.AuthRef = upstream.Digest(*m.Auth)[:refLength]
			d.Auths[m.AuthRef], m.Auth = *m.Auth, nil
		}
	})
}

// unfold makes a document of schema 1 of one of schema 2. Its errors name no entry:
// the name of credentials is made of a password.
func (d *document) unfold() error {
	var wrong error
	d.accesses(func(m *access) {
		if m.CARef != "" {
			ca, ok := d.CAs[m.CARef]
			if m.CA = ca; !ok {
				wrong = errors.New("something refers to a CA that is not there")
			}
		}
		if m.AuthRef != "" {
			a, ok := d.Auths[m.AuthRef]
			if m.Auth = &a; !ok {
				wrong = errors.New("something refers to credentials that are not there")
			}
		}
	})
	d.Schema = Schema
	return wrong
}
