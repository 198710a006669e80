package owner

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func endpoints(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.StringMatching(`10\.[0-9]\.[0-9]\.[0-9]:5001`), 1, 9, rapid.ID[string]).Draw(t, "endpoints")
}

// TestOrderIsTheKeysAlone: whoever asks, however it learned of the stores, has the same order of all.
func TestOrderIsTheKeysAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all, key := endpoints(t), rapid.String().Draw(t, "key")
		order := Of(key, all)
		mixed := append(rapid.Permutation(all).Draw(t, "mixed"), all[0])
		before := slices.Clone(mixed)
		if again := Of(key, mixed); !slices.Equal(again, order) {
			t.Errorf("%v, and %v of %v", order, again, mixed)
		}
		if !slices.Equal(mixed, before) {
			t.Error("what was given was changed")
		}
		slices.Sort(all)
		if slices.Sort(order); !slices.Equal(order, all) {
			t.Errorf("%v are not %v", order, all)
		}
	})
}

// TestOnlyItsShareMoves: without one store the others keep their order for every key; so its
// keys go to their second, which has a copy.
func TestOnlyItsShareMoves(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all, key := endpoints(t), rapid.String().Draw(t, "key")
		gone := rapid.SampledFrom(all).Draw(t, "gone")
		isGone := func(e string) bool { return e == gone }
		want := slices.DeleteFunc(Of(key, all), isGone)
		if got := Of(key, slices.DeleteFunc(slices.Clone(all), isGone)); !slices.Equal(got, want) {
			t.Errorf("without %s: %v, want %v", gone, got, want)
		}
	})
}

// TestSharesAreEqual, of firsts and of seconds, within what chance does.
func TestSharesAreEqual(t *testing.T) {
	t.Parallel()
	const keys = 30_000
	all := []string{"10.0.0.1:5001", "10.0.0.2:5001", "10.0.0.3:5001"}
	got := map[string]int{}
	for i := range keys {
		order := Of(fmt.Sprintf("sha256:%064x", i), all)
		got["first "+order[0]]++
		got["second "+order[1]]++
	}
	for who, n := range got {
		if n < keys/3*95/100 || n > keys/3*105/100 {
			t.Errorf("%s has %d of %d", who, n, keys)
		}
	}
}

// TestOrderStays: stores of two versions have to agree.
func TestOrderStays(t *testing.T) {
	t.Parallel()
	all := []string{"10.0.0.1:5001", "10.0.0.2:5001", "10.0.0.3:5001"}
	if got := Of("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", all); !slices.Equal(got, []string{all[0], all[2], all[1]}) {
		t.Errorf("%v", got)
	}
	if got := Of("node-1", nil); len(got) > 0 {
		t.Errorf("%v", got)
	}
}
