package kube

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// podSubnet is the subnet of a node's pods, by its address, whose last byte is
// its own: no cluster here has 255 parts.
func podSubnet(node netip.Addr) netip.Prefix {
	b := node.As4()
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 113, b[3], 0}), 24)
}

// writeCNI has pods get an address of the node's subnet, at the end of a cable
// of their own: everything between two pods is routed, as kube-proxy needs it.
// Nothing is masqueraded, for routes lead back.
func (n *Node) writeCNI() error {
	config, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0", "name": "pods",
		"plugins": []map[string]any{{
			"type": "ptp", "ipMasq": false,
			"ipam": map[string]any{
				"type":    "host-local",
				"ranges":  [][]map[string]string{{{"subnet": n.pods.String()}}},
				"routes":  []map[string]string{{"dst": "0.0.0.0/0"}},
				"dataDir": "/run/cni", // a machine that was switched off has no pods left
			},
		}},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("configure the pods' network of %s: %w", n.Name, err)
	}
	return n.writeFile("/etc/cni/net.d/10-pods.conflist", string(config), 0o644)
}
