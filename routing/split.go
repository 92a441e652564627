package routing

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Share is a part of the users in hundredths of a percent.
type Share uint16

// Whole is all users.
const Whole Share = 10_000

// String formats the share as a percentage: "10%", "0.01%".
func (s Share) String() string {
	return strconv.FormatFloat(s.Percent(), 'f', -1, 64) + "%"
}

// Percent returns the share in percent, 0 to 100.
func (s Share) Percent() float64 { return float64(s) / 100 }

// Split divides users over versions. A user's bucket is
// xxhash64(Salt + "/" + key) modulo [Whole], and the ranges take the buckets in
// their order. While order and salt stay and only the first range grows, users
// move in one direction: who is in at 10 % is in at 25 %.
type Split struct {
	Salt   string
	Ranges []Range // weights sum to Whole
}

// Range is the part of the buckets that one version gets.
type Range struct {
	Version string
	Weight  Share
}

// Validate reports a split that cannot be served.
func (s Split) Validate() error {
	var sum int
	for i, r := range s.Ranges {
		if r.Version == "" {
			return fmt.Errorf("ranges[%d]: no version", i)
		}
		sum += int(r.Weight)
	}
	if sum != int(Whole) {
		return fmt.Errorf("weights sum to %d, must be %d", sum, Whole)
	}
	return nil
}

// Version returns the version of a bucket in [0, Whole).
func (s Split) Version(bucket int) string {
	upTo := 0
	for _, r := range s.Ranges {
		upTo += int(r.Weight)
		if bucket < upTo {
			return r.Version
		}
	}
	return s.Ranges[len(s.Ranges)-1].Version
}

// Weight returns the share of a version, over all of its ranges.
func (s Split) Weight(version string) Share {
	var w Share
	for _, r := range s.Ranges {
		if r.Version == version {
			w += r.Weight
		}
	}
	return w
}

// Heaviest returns the version with the largest weight; of equals the last,
// which in a rollout is the stable one. It is what undecided requests get.
func (s Split) Heaviest() string {
	best := len(s.Ranges) - 1
	for i := best - 1; i >= 0; i-- {
		if s.Ranges[i].Weight > s.Ranges[best].Weight {
			best = i
		}
	}
	return s.Ranges[best].Version
}

// Bucket returns the bucket of a key under a salt, in [0, Whole). It equals
// what Envoy computes for a header hash policy whose value is rewritten to
// "salt/key". It does not allocate.
func Bucket(salt, key string) int {
	return int(hash(0, salt, key) % uint64(Whole))
}

// bucketOf is the bucket of a header that came several times, given what each
// value was rewritten to. As Envoy does it: all sorted, the hash of one the
// seed of the next. It sorts rewritten.
func bucketOf(rewritten []string) int {
	slices.Sort(rewritten)
	var h uint64
	for _, v := range rewritten {
		d := xxhash.NewWithSeed(h)
		_, _ = d.WriteString(v)
		h = d.Sum64()
	}
	return int(h % uint64(Whole))
}

func hash(seed uint64, salt, key string) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.WriteString(salt)
	_, _ = d.WriteString("/")
	_, _ = d.WriteString(key)
	return d.Sum64()
}

// ParseShare reads a percentage as people write it, "10%" or "0.01%".
// It reports what is wrong in the words that an error to the user ends with.
func ParseShare(s string) (Share, error) {
	num, ok := strings.CutSuffix(strings.TrimSpace(s), "%")
	if !ok {
		return 0, errors.New("must be a percentage like 10%")
	}
	num = strings.TrimSpace(num)
	whole, frac, _ := strings.Cut(num, ".")
	if !digits(whole) || (frac == "" && strings.Contains(num, ".")) || (frac != "" && !digits(frac)) {
		return 0, errors.New("must be a percentage like 10%")
	}
	if frac = strings.TrimRight(frac, "0"); len(frac) > 2 {
		return 0, fmt.Errorf("must be a multiple of 0.01%%")
	}
	n, err := strconv.Atoi(whole)
	if err != nil || n > 100 || (n == 100 && frac != "") {
		return 0, fmt.Errorf("must be at most 100%%")
	}
	hundredths, _ := strconv.Atoi((frac + "00")[:2])
	return Share(n*100 + hundredths), nil
}

func digits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
