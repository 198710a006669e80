package e2e

import (
	"slices"
	"strings"
)

// how says what is done with a block of a document.
type how string

const (
	howApply   how = "apply"   // YAML: kubectl apply, with placeholders filled
	howRun     how = "run"     // commands: run as printed
	howCompare how = "compare" // an output or a file: compared with what we see
	howShown   how = "shown"   // a statement: seen in these steps
	howRows    how = "rows"    // a statement: see its rows in docs/seeds.md
)

// entry says how one block of a document is shown.
type entry struct {
	doc   string
	line  int // its first
	kind  kind
	how   how
	steps string // of the timeline, separated by spaces
	rows  string // of docs/seeds.md: "4-9 12"
}

func (e entry) inSteps() []string { return strings.Fields(e.steps) }

// script has one entry for each block of the documents that says something.
// Headings and what only introduces the next block need none: see needsEntry.
func script() []entry {
	return slices.Concat(scriptSwitch(), scriptPrepare(), scriptModule())
}

// scriptSwitch is testdata/seeds/internal-registry.md up to the way to Unmanaged.
func scriptSwitch() []entry {
	const d = docManage
	return []entry{
		{d, 7, kindText, howShown, "unmanaged", "1"},
		{d, 9, kindText, howShown, "direct-b a-off", "2-3"},
		{d, 15, kindBullet, howShown, "direct-a direct-b", "4-10"},
		{d, 17, kindBullet, howShown, "unmanaged", "11-13"},
		{d, 19, kindAlert, howRows, "", "14-15"},
		{d, 25, kindText, howRows, "", "16"},
		{d, 29, kindText, howShown, "unmanaged", "17-18"},
		{d, 35, kindBullet, howShown, "cluster", "15 20"},
		{d, 36, kindBullet, howRows, "", "21-22"},
		{d, 42, kindBullet, howShown, "v1-clash", "23"},
		{d, 43, kindBullet, howShown, "unmanaged-again", "24"},
		{d, 44, kindBullet, howShown, "unmanaged", "25"},
		// To Direct.
		{d, 52, kindAlert, howShown, "direct-a direct-b", "26-27"},
		{d, 59, kindStep, howShown, "v1-clash mirror-auth v1-prepared", "28"},
		{d, 61, kindStep, howShown, "masters-ready", "29"},
		{d, 63, kindBash, howRun, "masters-ready", ""},
		{d, 69, kindConsole, howCompare, "masters-ready", ""},
		{d, 76, kindText, howShown, "masters-ready", "29"},
		{d, 78, kindConsole, howCompare, "masters-ready", ""},
		{d, 85, kindStep, howShown, "module-running", "30"},
		{d, 87, kindBash, howRun, "module-running", ""},
		{d, 93, kindConsole, howCompare, "module-running", ""},
		{d, 98, kindStep, howShown, "v1-clash direct-b", "31-33"},
		{d, 102, kindYAML, howApply, "v1-clash", "31"},
		{d, 119, kindStep, howShown, "direct-a", "34"},
		{d, 121, kindYAML, howCompare, "direct-a", ""},
		// To Unmanaged.
		{d, 136, kindAlert, howShown, "unmanaged-again", "27"},
		{d, 140, kindAlert, howShown, "unmanaged-again", "24 35"},
		{d, 146, kindStep, howShown, "masters-ready-again", "29"},
		{d, 148, kindBash, howRun, "masters-ready-again", ""},
		{d, 154, kindConsole, howCompare, "masters-ready-again", ""},
		{d, 161, kindText, howShown, "masters-ready-again", "29"},
		{d, 163, kindConsole, howCompare, "masters-ready-again", ""},
		{d, 170, kindStep, howShown, "unmanaged-again", "36"},
		{d, 172, kindYAML, howCompare, "unmanaged-again", ""},
		{d, 185, kindStep, howShown, "unmanaged-again", "37"},
		{d, 187, kindYAML, howApply, "unmanaged-again", "37"},
		{d, 200, kindStep, howShown, "unmanaged-again", "38"},
		{d, 202, kindYAML, howCompare, "unmanaged-again", ""},
		{d, 215, kindStep, howShown, "legacy", "39"},
	}
}

// scriptPrepare is the rest of it: containerd v1, the legacy format, the status.
func scriptPrepare() []entry {
	const d = docManage
	return []entry{
		// Preparation of containerd v1.
		{d, 219, kindText, howShown, "direct-a unmanaged-again", "40-43"},
		{d, 225, kindBash, howCompare, "mirror-auth-works", "44"},
		{d, 238, kindTOML, howCompare, "mirror-auth mirror-auth-works", "45"},
		{d, 251, kindText, howShown, "v1-clash", "46"},
		{d, 255, kindAlert, howShown, "mirror-auth v1-prepared mirror-auth-works", "47-48"},
		{d, 260, kindStep, howShown, "mirror-auth", "49"},
		{d, 262, kindYAML, howApply, "mirror-auth", "49"},
		{d, 296, kindBash, howRun, "mirror-auth mirror-auth-works", "48 50-51"},
		{d, 304, kindStep, howShown, "v1-prepared", "52-53"},
		// Back to the legacy format.
		{d, 308, kindAlert, howShown, "refused-in-direct legacy legacy-works", "54-56"},
		{d, 314, kindStep, howShown, "unmanaged-again", "57"},
		{d, 316, kindStep, howShown, "legacy", "57"},
		{d, 318, kindYAML, howCompare, "legacy", ""},
		{d, 331, kindStep, howShown, "legacy", "58"},
		{d, 333, kindBash, howRun, "legacy", "58"},
		{d, 337, kindStep, howShown, "legacy", "59"},
		{d, 341, kindYAML, howCompare, "legacy", ""},
		// The status.
		{d, 358, kindBash, howRun, "unmanaged direct-a direct-b unmanaged-again legacy", "60"},
		{d, 364, kindYAML, howCompare, "direct-a direct-b", "61 63"},
		{d, 405, kindText, howShown, "v1-clash direct-a", "62-63"},
		{d, 411, kindRow, howShown, "v1-clash direct-a", "64"},
		{d, 412, kindRow, howShown, "direct-b", "65"},
		{d, 413, kindRow, howShown, "direct-b", "66"},
		{d, 414, kindRow, howShown, "direct-a direct-b", "67"},
		{d, 415, kindRow, howShown, "direct-a", "68"},
		{d, 416, kindRow, howShown, "unmanaged-again", "69"},
		{d, 417, kindRow, howShown, "v1-clash direct-a", "70"},
	}
}

// scriptModule is testdata/seeds/registry-module.md.
func scriptModule() []entry {
	const d = docModule
	return []entry{
		{d, 8, kindText, howShown, "unmanaged", "1"},
		{d, 10, kindText, howShown, "direct-b a-off", "2-3"},
		{d, 14, kindBullet, howShown, "direct-a direct-b", "4-10"},
		{d, 15, kindBullet, howShown, "unmanaged", "11-13"},
		{d, 21, kindBullet, howShown, "cluster", "14-15 20"},
		{d, 22, kindBullet, howRows, "", "21-22"},
		{d, 23, kindBullet, howShown, "unmanaged direct-a", "17-19"},
		{d, 24, kindBullet, howShown, "v1-clash", "14 23 74"},
		{d, 25, kindBullet, howShown, "unmanaged-again", "24"},
		{d, 26, kindBullet, howShown, "unmanaged unmanaged-again", "25"},
		{d, 30, kindText, howShown, "direct-a", "71"},
		{d, 32, kindText, howShown, "direct-a", "72"},
		{d, 34, kindText, howShown, "direct-a direct-b", "73"},
		{d, 37, kindText, howRows, "", "10"},
		{d, 39, kindComment, howRows, "", "75-77"},
		{d, 46, kindComment, howRows, "", "78-81"},
	}
}

// needsEntry is false for what says nothing of its own: headings, heads of
// tables, and lines that introduce the next block.
func needsEntry(b block) bool {
	switch b.Kind {
	case kindFront, kindHeading:
		return false
	case kindRow:
		return !strings.HasPrefix(b.Text, "| Condition ") && !strings.HasPrefix(b.Text, "| ---")
	case kindText:
		// "You can use this guide to track the switch. Example output:"
		return !strings.HasSuffix(b.Text, ":") || strings.Contains(b.Text, "master-2")
	case kindComment:
		return !strings.HasPrefix(b.Text, "<!---") // a remark about a picture's source
	default:
		return true
	}
}
