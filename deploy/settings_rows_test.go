package deploy

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// row is one value of spec.settings.registry, as YAML, and the message that
// refuses it, empty where it is accepted.
type row struct {
	name, registry, want string
}

// inDirect is a section with mode Direct and these fields.
func inDirect(fields string) string { return "{mode: Direct, direct: {" + fields + "}}" }

// withRepo is inDirect with a good imagesRepo.
func withRepo(fields string) string {
	return inDirect("imagesRepo: registry.example.com/deckhouse, " + fields)
}

func repo(imagesRepo string) string { return inDirect("imagesRepo: " + imagesRepo) }

const (
	wantSpecified      = "registry: when mode is 'Direct', 'direct' section must be specified."
	wantOmitted        = "registry: when mode is not 'Direct', 'direct' section must be omitted."
	wantModes          = "; expected 'Direct', 'Proxy' or 'Unmanaged'."
	wantLocal          = "registry: mode 'Local' is not supported yet" + wantModes
	wantRepo           = "registry.direct: 'imagesRepo' is required."
	wantPassword       = "registry.direct: 'password' is required when 'username' is provided."
	wantUsername       = "registry.direct: 'username' is required when 'password' is provided."
	wantExclusive      = "registry.direct: 'license' and 'username'/'password' are mutually exclusive."
	wantObject         = "registry: must be an object with 'mode'."
	wantForm           = "registry.direct: 'imagesRepo' must be host[:port][/path], without scheme, credentials, tag and digest."
	wantPort           = "registry.direct: the port in 'imagesRepo' must be a number from 1 to 65535."
	wantHost           = "registry.direct: the host in 'imagesRepo' must be a DNS name or an IP address."
	wantBrackets       = "registry.direct: an IPv6 address in 'imagesRepo' must be in brackets and with a port, such as [fd00::1]:5000."
	wantHex            = "registry.direct: what is in brackets in 'imagesRepo' must be an IPv6 address in hexadecimal digits."
	wantZone           = "registry.direct: 'imagesRepo' has a link-local address or a zone, which image references cannot have; expected another address."
	wantControls       = "registry.direct: 'password' must not contain control characters, line breaks and tabs excepted."
	wantOneLine        = "registry.direct: 'password' is one line with a line break or a tab before or after it; remove that (printf '%s' instead of echo)."
	wantSegment        = "registry.direct: each segment of the path in 'imagesRepo' must consist of letters, digits, '.', '_' and '-', and be neither '.' nor '..'."
	wantSpace          = "registry.direct: 'imagesRepo' must be without white space and without a slash at its end."
	wantReserved       = "registry.direct: 'imagesRepo' names the module's own address registry.d8-system.svc; expected the address of the real registry."
	wantPEM            = "registry.direct: 'ca' must be certificates in PEM form, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, and nothing else in PEM form."
	wantUnmanaged      = "registry: 'unmanaged' section must be omitted: in mode 'Unmanaged' the registry cannot be changed. Switch to 'Direct', change it there, and switch back to 'Unmanaged'."
	wantNoDots         = "registry.direct: the host in 'imagesRepo' has no dot and therefore needs a port."
	wantProxySpecified = "registry: when mode is 'Proxy', 'proxy' section must be specified."
	wantProxyOmitted   = "registry: when mode is not 'Proxy', 'proxy' section must be omitted."
	wantUnknownKey     = "'; expected 'imagesRepo', 'scheme', 'license', 'username', 'password' and 'ca'."
)

func wantControl(field string) string {
	return "registry.direct: '" + field + "' must not contain line breaks and other control characters."
}

// passwordRefusal is what a password with a control character in it is refused
// with: line breaks and tabs are none of those.
func passwordRefusal(control string) string {
	switch control {
	case "newline", "carriage return", "tab":
		return ""
	case "final newline":
		return wantOneLine
	}
	return wantControls
}

func wantString(field string) string { return "registry.direct: '" + field + "' must be a string." }

// rows are all that is known to be right and wrong about the section.
func rows(t *testing.T) []row {
	t.Helper()
	of := slices.Concat(typeRows(), repoRows(), credentialRows(), caRows(t))
	return slices.Concat(modeRows(), ttlRows(), of, inProxy(of))
}

// inProxy has the rows about Direct's section once more for Proxy's: it has the same fields, with
// the same limits, and is refused with the same words.
func inProxy(rows []row) []row {
	var all []row
	section := strings.NewReplacer("mode: Direct, direct: ", "mode: Proxy, proxy: ")
	for _, r := range rows {
		registry := section.Replace(r.registry)
		if registry == r.registry {
			continue
		}
		want := strings.ReplaceAll(r.want, "registry.direct: ", "registry.proxy: ")
		all = append(all, row{r.name + " in Proxy", registry, want})
	}
	return all
}

// ttlRows are about the one field that is Proxy's alone.
func ttlRows() []row {
	const least = "registry.proxy: 'ttl' should be at least 5 minutes."
	format := func(shown string) string {
		return "registry.proxy: invalid ttl format \"" + shown + "\": expected hours, minutes and seconds, as in '1h30m10s'."
	}
	long := func(shown string) string {
		return "registry.proxy: 'ttl' \"" + shown + "\" is too long: expected at most six digits in each of its numbers."
	}
	all := []row{{"number for ttl", ttl("300"), "registry.proxy: 'ttl' must be a string."}, {"null for ttl", ttl("null"), "registry.proxy: 'ttl' must be a string."}}
	for value, want := range map[string]string{
		"1h30m10s": "", "5m": "", "300s": "", "0h4m60s": "", "999999h": "", "999999h999999m999999s": "", "000005m": "",
		"4m59s": least, "0s": least, "299s": least,
		"": format(""), "7d": format("7d"), "1.5h": format("1.5h"), "5": format("5"), "-5m": format("-5m"), "5m1h": format("5m1h"), "5 m": format("5 m"), "5M": format("5M"), "٥m": format("٥m"),
		"1000000h": long("1000000h"), "99999999999999h": long("99999999999999h"), "0000005m": long("0000005m"),
		strings.Repeat("1", 63) + "h": long(strings.Repeat("1", 63) + "h"), strings.Repeat("1", 64) + "h": format(strings.Repeat("1", 40)),
		strings.Repeat("1", 1<<20) + "h": format(strings.Repeat("1", 40)),
	} {
		all = append(all, row{"ttl " + value[:min(len(value), 70)], ttl("'" + value + "'"), want})
	}
	return append(all, row{"ttl of two lines", ttl(`"5m\n"`), "registry.proxy: invalid ttl format: expected hours, minutes and seconds, as in '1h30m10s'."})
}

func ttl(value string) string {
	return "{mode: Proxy, proxy: {imagesRepo: registry.example.com/deckhouse, ttl: " + value + "}}"
}

func modeRows() []row {
	return []row{
		{"seed Direct", `
mode: Direct
direct:
  imagesRepo: registry.deckhouse.io/deckhouse/ee
  scheme: HTTPS
  license: <LICENSE_KEY> # Replace with your license key
`, ""},
		{"seed Unmanaged", "mode: Unmanaged", ""},
		{"empty section", "{}", ""},
		{"Direct without section", "{mode: Direct}", wantSpecified},
		{"Direct with null section", "{mode: Direct, direct: null}", wantSpecified},
		{"Direct with empty section", inDirect(""), wantRepo},
		{"Unmanaged with direct", "{mode: Unmanaged, direct: {imagesRepo: a.b/c}}", wantOmitted},
		{"Unmanaged with null direct", "{mode: Unmanaged, direct: null}", wantOmitted},
		{"Unmanaged with wrong direct", "{mode: Unmanaged, direct: {imagesRepo: 7, x: y}}", wantOmitted},
		{"no mode with direct", "{direct: {imagesRepo: a.b/c}}", wantOmitted},
		{"Direct with unmanaged", "{mode: Direct, direct: {imagesRepo: a.b/c}, unmanaged: {imagesRepo: a.b/c}}",
			"registry: when mode is not 'Unmanaged', 'unmanaged' section must be omitted."},
		{"Unmanaged with unmanaged", "{mode: Unmanaged, unmanaged: {imagesRepo: a.b/c}}", wantUnmanaged},
		{"no mode with unmanaged", "{unmanaged: {imagesRepo: a.b/c}}", wantUnmanaged},
		{"Direct with proxy", "{mode: Direct, direct: {imagesRepo: a.b/c}, proxy: {imagesRepo: a.b/c}}",
			wantProxyOmitted},
		{"Unmanaged with proxy", "{mode: Unmanaged, proxy: {ttl: 5m}}",
			wantProxyOmitted},
		{"Proxy", "{mode: Proxy, proxy: {imagesRepo: a.b/c}}", ""},
		{"Proxy with all of its fields", "{mode: Proxy, proxy: {imagesRepo: a.b/c, scheme: HTTP, username: u, password: p, ca: '', license: '', ttl: 24h}}", ""},
		{"Proxy without section", "{mode: Proxy}", wantProxySpecified},
		{"Proxy with null section", "{mode: Proxy, proxy: null}", wantProxySpecified},
		{"Proxy with empty section", "{mode: Proxy, proxy: {}}", "registry.proxy: 'imagesRepo' is required."},
		{"Proxy with direct", "{mode: Proxy, direct: {imagesRepo: a.b/c}, proxy: {imagesRepo: a.b/c}}", wantOmitted},
		{"Proxy with unmanaged", "{mode: Proxy, proxy: {imagesRepo: a.b/c}, unmanaged: {}}",
			"registry: when mode is not 'Unmanaged', 'unmanaged' section must be omitted."},
		{"Unmanaged with null proxy", "{mode: Unmanaged, proxy: null}", wantProxyOmitted},
		{"no mode with proxy", "{proxy: {imagesRepo: a.b/c}}", wantProxyOmitted},
		{"unknown key in proxy", "{mode: Proxy, proxy: {imagesRepo: a.b/c, checkMode: Relax}}",
			"registry.proxy: unknown field 'checkMode'; expected 'imagesRepo', 'scheme', 'license', 'username', 'password', 'ca' and 'ttl'."},
		{"Proxy in lower case", "{mode: proxy, proxy: {imagesRepo: a.b/c}}",
			"Unknown registry mode: proxy" + wantModes},
		{"Local with a section", "{mode: Local, local: {}}", wantLocal},
		{"Local", "{mode: Local}", wantLocal},
		{"unknown mode", "{mode: Managed}", "Unknown registry mode: Managed" + wantModes},
		{"mode in lower case", "{mode: direct, direct: {imagesRepo: a.b/c}}",
			"Unknown registry mode: direct" + wantModes},
		{"empty mode", `{mode: ""}`, "Unknown registry mode: " + wantModes},
		{"mode with a space", `{mode: "Direct "}`, "Unknown registry mode: Direct " + wantModes},
		{"mode of two lines", `{mode: "Direct\nx"}`, "Unknown registry mode" + wantModes},
		{"a megabyte of mode", "{mode: " + strings.Repeat("M", 1<<20) + "}",
			"Unknown registry mode: " + strings.Repeat("M", 40) + "…" + wantModes},
		{"unknown key", "{mode: Unmanaged, local: {}}", "registry: unknown field 'local'; expected 'mode', 'direct' and 'proxy'."},
		{"unknown key in direct", withRepo("checkMode: Relax"), "registry.direct: unknown field 'checkMode" + wantUnknownKey},
		{"misspelt key in direct", inDirect("imageRepo: a.b/c"), "registry.direct: unknown field 'imageRepo" + wantUnknownKey},
		{"ttl in direct", withRepo("ttl: 1m"), "registry.direct: unknown field 'ttl" + wantUnknownKey},
	}
}

// typeRows have every other type of JSON where an object or a string belongs.
func typeRows() []row {
	all := []row{
		{"bool for direct in Unmanaged", "{mode: Unmanaged, direct: false}", wantOmitted},
	}
	for name, value := range map[string]string{
		"string": "text", "number": "7", "float": "1.5", "list": "[a]", "empty list": "[]", "bool": "true", "null": "null", "object": "{a: b}",
	} {
		if name != "object" {
			all = append(all, row{name + " for registry", value, wantObject})
		}
		if name != "string" {
			all = append(all, row{name + " for mode", "{mode: " + value + "}", "registry: 'mode' must be a string."})
		}
		if name != "object" && name != "null" {
			all = append(all, row{name + " for direct", "{mode: Direct, direct: " + value + "}", "registry.direct: must be an object."})
		}
		if name == "string" {
			continue
		}
		all = append(all, row{name + " for imagesRepo", repo(value), wantString("imagesRepo")})
		for _, field := range []string{"scheme", "license", "username", "password", "ca"} {
			all = append(all, row{name + " for " + field, withRepo(field + ": " + value), wantString(field)})
		}
	}
	return all
}

func repoRows() []row {
	const long = "registry.direct: 'imagesRepo' is longer than 255 characters."
	all := []row{
		{"empty imagesRepo", repo(`""`), wantRepo},
		{"255 characters", repo("a.b/" + strings.Repeat("c", 251)), ""},
		{"256 characters", repo("a.b/" + strings.Repeat("c", 252)), long},
		{"a megabyte of imagesRepo", repo("a.b/" + strings.Repeat("c", 1<<20)), long},
	}
	for want, repos := range map[string][]string{
		"": {
			"a.b", "registry.deckhouse.io/deckhouse/ce", "registry.example.com:5000/a/b", "10.0.0.1:5000/a", "10.0.0.1", "localhost/a",
			"registry:5000/a", "a.b/c.d_e-f/..g", "a.b/...", "Registry.Example.COM/Path", "xn--80ak6aa92e.com/a", "0.0.0.0", "1.2.3.4a/b",
			"'[fd00::1]:5000/a'", "'[FD00:0::A]:443'", "'[::1]:5000/a'", "'[1:2:3:4:5:6:7:8]:1/a'", "'[::]:1'", "'[1::]:65535'", "'[1:2:3:4:5:6:7::]:1'", "'[fe00::1]:5000/a'",
			"docker.io/team/ee", "index.docker.io/team", "registry-1.docker.io/a", "a.b:1", "a.b:65535", "registry.d8-system.svc2/a", "registry.d8-system/a",
		},
		wantSpace: {"a.b/c/", "a.b/", "'a.b/c '", "' a.b/c'", `"a.b/c\n"`, `"a.b/c\t"`, `"a.b/\0"`, "'a.b/c d'", `"a.b/c\x1b[31m"`},
		wantForm: {
			"https://a.b/c", "http://a.b/c", "user:password@a.b/c", "'a.b/c@sha256:0000'", "oci://a.b",
		},
		wantPort: {
			"'a.b:0/c'", "'a.b:99999/c'", "'a.b:65536'", "'a.b:/c'", "'a.b:port/c'", "'a.b:080/c'", "'a.b:-1'", "'a.b:1:2'", "'[fd00::1]:0/a'", "'[fd00::1]:05'",
			"'[fd00::1]:x'", "'a.b:123456789012345678901234567890'",
		},
		wantBrackets: {"'::1'", "'fd00::1/a'", "'fd00::1:5000/a'", "'[fd00::1]/a'", "'[fd00::1/a'", "'[fd00::1]5000/a'", "'[]'", "'['", "'1:2:3:4:5:6:7:8/a'", "'[fd00::1]]:5'"},
		wantHex: {"'[]:5000'", "'[::ffff:10.0.0.1]:5000/a'", "'[fd00::g]:5000'", "'[1::2::3]:5000'", "'[:::]:1'", "'[1:2:3:4:5:6:7]:1'", "'[1:2:3:4:5:6:7:8:9]:1'",
			"'[1:2:3:4::5:6:7:8]:1'", "'[fd000::1]:1'", "'[a.b]:1/c'", "'[1:]:1'", "'[:1::]:1'"},
		wantZone: {"'[fe80::1%eth0]:5000/a'", "'[FE80::1]:5000/a'", "'fe80::1%eth0/a'", "'[febf::1]:5000/a'", "'[fd00::1%25eth0]:5000/a'"},
		wantHost: {
			"'/a'", "a..b/c", ".a.b/c", "a.b./c", "-a.b/c", "a-.b/c", "a_b.c/d", "256.1.1.1/a", "1.2.3/a", "01.2.3.4/a", "1.2.3.4.5",
			"a.123", strings.Repeat("a", 64) + ".b/c", "приклад.рф/a", "a%2eb.c", "a.b\\c/d", "'a.b,c'", "'$(id).b'", "'a.b#c'",
		},
		wantNoDots:   {"registry/a", "a", "deckhouse/ee"},
		wantReserved: {"registry.d8-system.svc", "registry.d8-system.svc:5001/system/deckhouse", "REGISTRY.D8-system.svc/a", "registry.d8-system.svc.cluster.local:5001/a"},
		wantSegment: {
			"a.b/../c", "a.b/..", "a.b/.", "a.b/c/./d", "a.b//c", "a.b/c:tag", "a.b/ü", "a.b/c%2f", "'a.b/c?x'", "'a.b/c#d'", "a.b/c\\d", "'a.b/$(id)'",
			"'a.b/c;d'", "'a.b/c\"d'", "'a.b/c*'",
		},
	} {
		for _, r := range repos {
			all = append(all, row{"imagesRepo " + r, repo(r), want})
		}
	}
	return all
}

func credentialRows() []row {
	all := []row{
		{"scheme HTTP", withRepo("scheme: HTTP"), ""},
		{"scheme HTTPS", withRepo("scheme: HTTPS"), ""},
		{"scheme in lower case", withRepo("scheme: https"), "registry.direct: Invalid scheme 'https'; expected 'HTTP' or 'HTTPS'"},
		{"scheme ftp", withRepo("scheme: FTP"), "registry.direct: Invalid scheme 'FTP'; expected 'HTTP' or 'HTTPS'"},
		{"empty scheme", withRepo(`scheme: ""`), "registry.direct: Invalid scheme ''; expected 'HTTP' or 'HTTPS'"},
		{"a megabyte of scheme", withRepo("scheme: " + strings.Repeat("S", 1<<20)),
			"registry.direct: Invalid scheme '" + strings.Repeat("S", 40) + "…'; expected 'HTTP' or 'HTTPS'"},
		{"license", withRepo("license: key"), ""},
		{"username and password", withRepo("username: u, password: p"), ""},
		{"empty credentials", withRepo(`license: "", username: "", password: ""`), ""},
		{"password of any language", withRepo("username: u, password: 'пароль \U0001F511 \"$(id)'"), ""},
		{"username without password", withRepo("username: u"), wantPassword},
		{"username with empty password", withRepo(`username: u, password: ""`), wantPassword},
		{"password without username", withRepo("password: p"), wantUsername},
		{"password with empty username", withRepo(`username: "", password: p`), wantUsername},
		{"license and both", withRepo("license: key, username: u, password: p"), wantExclusive},
		{"license and username", withRepo("license: key, username: u"), wantExclusive},
		{"license and password", withRepo("license: key, password: p"), wantExclusive},
		{"colon in username", withRepo("username: 'a:b', password: p"), "registry.direct: 'username' must not contain ':'."},
		{"key of Google Cloud", withRepo("username: _json_key, password: " + strconv.Quote("{\n\t\"type\": \"service_account\"\n}\n")), ""},
		{"robots of Quay and Harbor", withRepo("username: 'org+robot$name', password: p"), ""},
		{"spaces around a password", withRepo("username: u, password: ' p '"), ""},
		{"line break before a password", withRepo(`username: u, password: "\np"`), wantOneLine},
		{"tab after a password", withRepo(`username: u, password: "p\t "`), wantOneLine},
		{"line breaks alone", withRepo(`username: u, password: "\n\n"`), wantOneLine},
		{"line breaks around and within", withRepo(`username: u, password: "\na\nb\n"`), ""},
		{"longest license", withRepo("license: " + strings.Repeat("k", 4096)), ""},
		{"longest license in bytes", withRepo("license: " + strings.Repeat("я", 2049)), "registry.direct: 'license' is longer than 4096 bytes."},
		{"longest password in bytes", withRepo("username: u, password: " + strings.Repeat("я", 2049)), "registry.direct: 'password' is longer than 4096 bytes."},
		{"longest username in bytes", withRepo("password: p, username: " + strings.Repeat("я", 128)), "registry.direct: 'username' is longer than 255 bytes."},
	}
	for name, control := range map[string]string{
		"newline": `\n`, "carriage return": `\r`, "tab": `\t`, "NUL": `\0`, "escape": `\e`, "DEL": `\x7f`, "C1": `\x85`, "final newline": `\n`,
	} {
		value := `"a` + control + `b"`
		if name == "final newline" {
			value = `"ab` + control + `"`
		}
		all = append(all,
			row{name + " in license", withRepo("license: " + value), wantControl("license")},
			row{name + " in username", withRepo("password: p, username: " + value), wantControl("username")},
			row{name + " in password", withRepo("username: u, password: " + value), passwordRefusal(name)},
		)
	}
	for field, other := range map[string]string{"license": "", "username": "password: p, ", "password": "username: u, "} {
		limit := map[string]string{"license": "4096", "username": "255", "password": "4096"}[field]
		all = append(all, row{"a megabyte of " + field, withRepo(other + field + ": " + strings.Repeat("x", 1<<20)),
			"registry.direct: '" + field + "' is longer than " + limit + " bytes."})
	}
	return all
}
