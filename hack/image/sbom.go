package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// sbom lists what is in a folder of our programs, by what the Go toolchain put
// into each: the modules and the toolchain itself. It has no serial number: it
// is the same for the same image.
func sbom(bin, version string, created time.Time) ([]byte, error) {
	libraries := map[string]cdx.Component{}
	var apps []cdx.Component
	var uses []cdx.Dependency
	for _, program := range programs() {
		data, err := os.ReadFile(filepath.Join(bin, program))
		if err != nil {
			return nil, err
		}
		info, err := buildinfo.Read(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", program, err)
		}
		app := cdx.Component{
			BOMRef: program, Type: cdx.ComponentTypeApplication, Name: program, Version: version,
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sha256.Sum256(data))}},
		}
		var refs []string
		for _, c := range modules(info) {
			libraries[c.BOMRef] = c
			refs = append(refs, c.BOMRef)
		}
		slices.Sort(refs)
		apps = append(apps, app)
		uses = append(uses, cdx.Dependency{Ref: program, Dependencies: &refs})
	}
	components := apps
	for _, ref := range slices.Sorted(maps.Keys(libraries)) {
		components = append(components, libraries[ref])
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: created.Format(time.RFC3339),
		Component: &cdx.Component{BOMRef: "registry", Type: cdx.ComponentTypeContainer, Name: "registry", Version: version},
	}
	bom.Components, bom.Dependencies = &components, &uses
	var out bytes.Buffer
	encoder := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON)
	encoder.SetPretty(true)
	if err := encoder.Encode(bom); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// modules are the libraries of one program, the standard one included.
func modules(info *buildinfo.BuildInfo) []cdx.Component {
	list := []cdx.Component{library("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, dep := range info.Deps {
		m := dep
		for m.Replace != nil {
			m = m.Replace
		}
		list = append(list, libraryOf(m))
	}
	return list
}

func libraryOf(m *debug.Module) cdx.Component { return library(m.Path, m.Version, m.Sum) }

func library(path, version, sum string) cdx.Component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl}
	if sum != "" { // a hash of its own kind, which the standard has no name for
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
	}
	return c
}
