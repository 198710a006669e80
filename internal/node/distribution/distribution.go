package distribution

import "fmt"

// Name is the name of what set a containerd up.
type Name string

// Those that we tell apart by what is found on the node.
const (
	Plain        Name = "plain"
	Kubeadm      Name = "kubeadm"
	Docker       Name = "docker"
	K3s          Name = "k3s"
	RKE2         Name = "rke2"
	K0s          Name = "k0s"
	MicroK8s     Name = "microk8s"
	Talos        Name = "talos"
	Bottlerocket Name = "bottlerocket"
	Flatcar      Name = "flatcar"
	EKS          Name = "eks"
	GKE          Name = "gke"
	AKS          Name = "aks"
	Deckhouse    Name = "deckhouse"
)

// Writing says when a distribution writes containerd's main file anew.
type Writing string

// The times. What is written at a start makes an edit useless. What is written
// when the node boots, or when the distribution's settings change, lasts until then.
const (
	Never   Writing = ""
	AtStart Writing = "start"
	AtBoot  Writing = "boot"
	Changed Writing = "change"
)

// Distribution is what set a containerd up, and how it wants to be configured.
type Distribution struct {
	Name Name
	// Writer is the program that writes the main file, Writes when.
	Writer string
	Writes Writing
	// Place is where an operator sets config_path, and Then what brings it to
	// containerd: ends of a sentence. Both are empty where the main file itself is the
	// place. Otherwise is the whole sentence where config_path cannot be chosen.
	Place, Then, Otherwise string
	// Registries is where the distribution itself takes mirrors and credentials of
	// registries, which it may write into the main file in the old format.
	Registries string
}

// Generated reports whether an edit of the main file would be lost with the
// restart that it needs.
func (d Distribution) Generated() bool { return d.Writes == AtStart }

// When says when the main file is written, for people; empty if it is not.
func (d Distribution) When() string {
	switch d.Writes {
	case AtStart:
		return fmt.Sprintf("whenever %s starts", d.Writer)
	case AtBoot:
		return fmt.Sprintf("by %s whenever the node boots", d.Writer)
	case Changed:
		return fmt.Sprintf("by %s whenever its settings change", d.Writer)
	case Never:
	}
	return ""
}

// Set says how an operator sets config_path so that it stays; empty if that is
// the main file, as everywhere.
func (d Distribution) Set(path string) string {
	if d.Place != "" {
		return fmt.Sprintf("set config_path = %q %s, and %s", path, d.Place, d.Then)
	}
	return d.Otherwise
}
