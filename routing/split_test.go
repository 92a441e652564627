package routing

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseShare(t *testing.T) {
	type result struct {
		Share Share
		Err   string
	}
	const form, fine, most = "must be a percentage like 10%", "must be a multiple of 0.01%", "must be at most 100%"
	for text, want := range map[string]result{
		"0%": {Share: 0}, "10%": {Share: 1000}, "100%": {Share: 10_000}, "0.01%": {Share: 1}, "0.1%": {Share: 10},
		"12.34%": {Share: 1234}, "99.99%": {Share: 9999}, "0.29%": {Share: 29}, "1.00%": {Share: 100}, "1.5000%": {Share: 150},
		"100.00%": {Share: 10_000}, " 10% ": {Share: 1000}, "10 %": {Share: 1000},
		"": {Err: form}, "%": {Err: form}, "10": {Err: form}, "10pp": {Err: form}, "ten%": {Err: form}, "-1%": {Err: form},
		"+1%": {Err: form}, "1e1%": {Err: form}, ".5%": {Err: form}, "5.%": {Err: form}, "1.2.3%": {Err: form},
		"1,5%": {Err: form}, "0x1%": {Err: form}, "1_0%": {Err: form}, "10%%": {Err: form}, "１0%": {Err: form}, "NaN%": {Err: form},
		"0.001%": {Err: fine}, "33.333%": {Err: fine}, "100.001%": {Err: fine},
		"101%": {Err: most}, "100.01%": {Err: most}, "99999999999999999999%": {Err: most},
	} {
		var got result
		share, err := ParseShare(text)
		if got.Share = share; err != nil {
			got.Err = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestShareString(t *testing.T) {
	for s := Share(0); s <= Whole; s++ {
		if back, err := ParseShare(s.String()); err != nil || back != s {
			t.Fatalf("%d is written %q, which is %d (%v)", s, s, back, err)
		}
	}
	if got := Share(1050).String(); got != "10.5%" {
		t.Errorf("got %s", got)
	}
}

func TestSplit(t *testing.T) {
	abc := Split{Salt: "s", Ranges: []Range{{"b", 1000}, {"a", 4000}, {"c", 1000}, {"a", 4000}}}
	type facts struct {
		At       map[int]string
		Weight   map[string]Share
		Heaviest string
		Invalid  string
	}
	look := func(s Split, buckets ...int) facts {
		f := facts{At: map[int]string{}, Weight: map[string]Share{}, Heaviest: s.Heaviest()}
		for _, b := range buckets {
			f.At[b] = s.Version(b)
		}
		for _, r := range s.Ranges {
			f.Weight[r.Version] = s.Weight(r.Version)
		}
		if err := s.Validate(); err != nil {
			f.Invalid = err.Error()
		}
		return f
	}
	tests := []struct {
		name string
		got  facts
		want facts
	}{
		{"several ranges", look(abc, 0, 999, 1000, 4999, 5000, 5999, 6000, 9999), facts{
			At:       map[int]string{0: "b", 999: "b", 1000: "a", 4999: "a", 5000: "c", 5999: "c", 6000: "a", 9999: "a"},
			Weight:   map[string]Share{"a": 8000, "b": 1000, "c": 1000},
			Heaviest: "a",
		}},
		{"equals", look(Split{Ranges: []Range{{"v2", 5000}, {"v1", 5000}}}, 0, 4999, 5000), facts{
			At:     map[int]string{0: "v2", 4999: "v2", 5000: "v1"},
			Weight: map[string]Share{"v2": 5000, "v1": 5000}, Heaviest: "v1",
		}},
		{"nothing for the candidate", look(Split{Ranges: []Range{{"v2", 0}, {"v1", Whole}}}, 0), facts{
			At: map[int]string{0: "v1"}, Weight: map[string]Share{"v2": 0, "v1": Whole}, Heaviest: "v1",
		}},
		{"all for the candidate", look(Split{Ranges: []Range{{"v2", Whole}, {"v1", 0}}}, 9999), facts{
			At: map[int]string{9999: "v2"}, Weight: map[string]Share{"v2": Whole, "v1": 0}, Heaviest: "v2",
		}},
		{"too little", look(Split{Ranges: []Range{{"v2", 1}, {"v1", 2}}}), facts{
			At: map[int]string{}, Weight: map[string]Share{"v2": 1, "v1": 2}, Heaviest: "v1", Invalid: "weights sum to 3, must be 10000",
		}},
		{"too much", look(Split{Ranges: []Range{{"v2", 60_000}, {"v1", 15_536}}}), facts{
			At: map[int]string{}, Weight: map[string]Share{"v2": 60_000, "v1": 15_536}, Heaviest: "v2",
			Invalid: "weights sum to 75536, must be 10000",
		}},
		{"no version", look(Split{Ranges: []Range{{"", Whole}}}), facts{
			At: map[int]string{}, Weight: map[string]Share{"": Whole}, Invalid: "ranges[0]: no version",
		}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// The hash is xxHash64 as others compute it.
func TestHashIsXXH64(t *testing.T) {
	var golden struct {
		Rows []struct {
			S    string `json:"s"`
			Hash string `json:"xxh64"`
		} `json:"rows"`
	}
	text, err := os.ReadFile("testdata/xxh64.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	for _, row := range golden.Rows {
		want, err := strconv.ParseUint(row.Hash, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := bucketOf([]string{row.S}); got != int(want%10_000) {
			t.Errorf("%q: bucket %d, want %d", row.S, got, want%10_000)
		}
	}
	if len(golden.Rows) < 300 {
		t.Errorf("only %d cases", len(golden.Rows))
	}
}

// What a bucket is may never change: users would. These were computed by
// Python's xxhash.
func TestBucketKnownAnswers(t *testing.T) {
	got := map[string]int{}
	for _, key := range []string{"", "alice", "bob", "user-00042", "é", strings.Repeat("x", 1000)} {
		got[key[:min(len(key), 10)]] = Bucket("churn-r1", key)
	}
	want := map[string]int{"": 6215, "alice": 550, "bob": 9676, "user-00042": 4896, "é": 7271, "xxxxxxxxxx": 5529}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBucketEqualsOneStringHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		salt, key := rapid.String().Draw(t, "salt"), rapid.String().Draw(t, "key")
		if got, want := Bucket(salt, key), int(xxhash.Sum64String(salt+"/"+key)%10_000); got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	})
}

// A header that came several times: every value in order of its bytes, the
// hash of one the seed of the next.
func TestBucketOfRepeatedValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "values")
		var want uint64
		for _, v := range slices.Sorted(slices.Values(list)) {
			d := xxhash.NewWithSeed(want)
			_, _ = d.Write([]byte(v))
			want = d.Sum64()
		}
		shuffled := rapid.Permutation(list).Draw(t, "order")
		if got := bucketOf(shuffled); got != int(want%10_000) {
			t.Fatalf("%d, want %d", got, want%10_000)
		}
	})
}

// Who is in at a share is in at every larger one, and the shares are kept.
func TestSplitIsMonotoneAndFair(t *testing.T) {
	const users = 10_000
	split := func(w Share) Split { return Split{Salt: "m-r1", Ranges: []Range{{"new", w}, {"old", Whole - w}}} }
	before := make([]bool, users)
	for _, w := range []Share{0, 1, 10, 100, 1000, 2500, 5000, 7500, 9999, Whole} {
		in := 0
		for u := range users {
			now := split(w).Version(Bucket("m-r1", fmt.Sprint("user", u))) == "new"
			if before[u] && !now {
				t.Fatalf("user %d left at %s", u, w)
			}
			if before[u] = now; now {
				in++
			}
		}
		// Five standard deviations of a binomial share.
		p := w.Percent() / 100
		if off := float64(in) - users*p; off*off > 25*users*p*(1-p) {
			t.Errorf("%d of %d users at %s", in, users, w)
		}
	}
}

// Another salt is another draw.
func TestSaltsAreIndependent(t *testing.T) {
	both := 0
	for u := range 10_000 {
		key := fmt.Sprint("user", u)
		if Bucket("a-r1", key) < 1000 && Bucket("a-r2", key) < 1000 {
			both++
		}
	}
	if both < 50 || both > 150 { // 100 expected, five standard deviations
		t.Errorf("%d of 10,000 users are among the first tenth twice", both)
	}
}
