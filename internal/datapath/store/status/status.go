// Package status is what a store says about itself, for the node half of the agent beside it:
// GET /status on the port for health. Start at Store.
package status

// Store is what the process says about itself, for the node half of the agent.
type Store struct {
	// Program is the version of the module, and LayoutSchema the newest one that it reads.
	Program      string `json:"program"`
	LayoutSchema int    `json:"layoutSchema"`
	// ConfigVersion is what its arguments are called, see pod.Store.
	ConfigVersion string `json:"configVersion,omitempty"`
	// Ready is whether pulls are served; Missing is why not.
	Ready   bool   `json:"ready"`
	Missing string `json:"missing,omitempty"`
	// Generation is that of the layout by which pulls are routed, Proven the same once its
	// target alone was seen to serve, Version that of its content.
	Generation int64  `json:"generation"`
	Proven     int64  `json:"proven"`
	Version    string `json:"version,omitempty"`
	// Identity stands for users and certificate; empty before both are in use as they are in
	// the files, see regauth.Fingerprint.
	Identity    string `json:"identity,omitempty"`
	TargetFails string `json:"targetFails,omitempty"`
	// Problem is what is wrong with files or disk; what was good stays in use.
	Problem string `json:"problem,omitempty"`
	// Stored is nil before the disk is open.
	Stored *Disk `json:"stored,omitempty"`
	// LastUse is when clients that are no nodes came last, and LastClients who they were;
	// OldUse is the last use of passwords that are being replaced.
	LastUse     string `json:"lastUse,omitempty"`
	LastClients string `json:"lastClients,omitempty"`
	OldUse      string `json:"oldUse,omitempty"`
}

// Disk is what is on the disk, in bytes and in numbers.
type Disk struct {
	Bytes  int64 `json:"bytes"`
	Blobs  int   `json:"blobs"`
	Coming int64 `json:"coming"`
	Quota  int64 `json:"quota"`
	Floor  int64 `json:"floor"`
	// Pins are images in use, of which nothing is evicted. Of PinsHere all is here that is to be: of
	// several stores each has its part.
	Pins        int   `json:"pins"`
	PinsHere    int   `json:"pinsHere"`
	PinnedBytes int64 `json:"pinnedBytes"`
	// PinsOver says that they alone leave no room.
	PinsOver bool `json:"pinsOver,omitempty"`
}
