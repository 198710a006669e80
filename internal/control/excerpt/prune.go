package excerpt

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// tree says what is kept of a message: by the number of a field what is kept of it.
type tree map[protowire.Number]field

// field is kept as it is, or of a message in it these fields only.
type field struct {
	of tree
	// with: it is dropped if this word is nowhere in it.
	with string
}

// all keeps fields as they are.
func all(numbers ...protowire.Number) tree { return tree{}.and(nil, numbers...) }

// and adds fields of which the same is kept.
func (f tree) and(of tree, numbers ...protowire.Number) tree {
	for _, n := range numbers {
		f[n] = field{of: of}
	}
	return f
}

// prune adds to a buffer what is kept of a message, in its order. The result is a message
// too: what decodes the whole one decodes it to the same but for the fields that are not
// there. What is dropped is not looked into.
func prune(to, message []byte, keep tree) ([]byte, error) {
	for len(message) > 0 {
		number, kind, head := protowire.ConsumeTag(message)
		if head < 0 {
			return nil, fmt.Errorf("read a message: %w", protowire.ParseError(head))
		}
		length := protowire.ConsumeFieldValue(number, kind, message[head:])
		if length < 0 {
			return nil, fmt.Errorf("read field %d: %w", number, protowire.ParseError(length))
		}
		value := message[head : head+length]
		switch kept, ok := keep[number]; {
		case !ok || kept.with != "" && !bytes.Contains(value, []byte(kept.with)):
		case kept.of == nil || kind != protowire.BytesType: // of another kind: the decoder says so
			to = append(to, message[:head+length]...)
		default:
			to = append(to, message[:head]...)
			inner, _ := protowire.ConsumeBytes(value)
			start := len(to)
			var err error
			if to, err = prune(to, inner, kept.of); err != nil {
				return nil, err
			}
			var size [10]byte
			to = slices.Insert(to, start, protowire.AppendVarint(size[:0], uint64(len(to)-start))...)
		}
		message = message[head+length:]
	}
	return to, nil
}

// The numbers that follow are those in generated.proto of k8s.io/apimachinery/pkg/apis/meta/v1,
// k8s.io/api/core/v1, apps/v1 and batch/v1. They never change.

// ownMeta of ObjectMeta: name, uid, resourceVersion, deletionTimestamp, and of the
// annotations that which says to ignore.
func ownMeta(ignore string) tree {
	f := all(1, 5, 6, 9)
	f[12] = field{with: ignore}
	return f
}

// alikeMeta adds namespace and ownerReferences {kind, name, uid, controller}.
func alikeMeta(f tree) tree { return f.and(nil, 3).and(all(1, 3, 4, 6), 13) }

// imageFields of PodSpec: volumes.volumeSource.image.reference, the images of containers,
// initContainers and ephemeralContainers, and imagePullSecrets.name.
func imageFields() tree {
	volume := tree{}.and(tree{}.and(all(1), 30), 2)
	return tree{}.and(volume, 1).and(all(2), 2, 20).and(tree{}.and(all(2), 1), 34).and(all(1), 15)
}
