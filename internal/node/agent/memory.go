package agent

import (
	"slices"
)

// memory is what this half must still know after a restart of its own. It is
// in the state folder.
type memory struct {
	// Main is where containerd's main file was when containerd answered last: a
	// change that broke containerd is undone without asking it.
	Main mainFile `json:"main"`
	// Home is where our host directories are; Left are the directories where
	// they were and may still be.
	Home abode   `json:"home"`
	Left []abode `json:"left,omitempty"`
}

// mainFile is what it takes to put containerd's main file back.
type mainFile struct {
	Path  string `json:"path"` // as containerd sees it
	Unit  string `json:"unit,omitempty"`
	Major int    `json:"major"`
}

// abode is where host directories are, and the run of containerd that was seen
// with them there.
type abode struct {
	Directory string `json:"directory"`
	Instance  string `json:"instance"`
}

// remember changes the memory, and saves it if that made a difference. What
// cannot be saved is known until the next restart of the agent only.
func (a *Agent) remember(change func(m *memory)) {
	before := a.memory
	before.Left = slices.Clone(before.Left)
	change(&a.memory)
	if before.Main == a.memory.Main && before.Home == a.memory.Home && slices.Equal(before.Left, a.memory.Left) {
		return
	}
	if err := a.folder.SaveMemory(a.memory); err != nil {
		a.log.Warn("what a restart of the agent must not forget is not saved", "err", err)
	}
}
