package pair_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare/pair"
)

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func exchange(id string) *pair.Exchange {
	return &pair.Exchange{RequestID: id, Primary: pair.Answer{Version: "v1", Status: 200}}
}

func answer(version string) *pair.Answer { return &pair.Answer{Version: version, Status: 200} }

// told is what pairs are about: "version" or "version!fault".
func told(pairs []*pair.Pair) []string {
	var all []string
	for _, p := range pairs {
		s := p.RequestID + ":" + p.Shadow.Version
		if p.Shadow.Fault != pair.FaultNone {
			s += "!" + string(p.Shadow.Fault)
		}
		all = append(all, s)
	}
	return all
}

func TestJoiner(t *testing.T) {
	type step func(j *pair.Joiner, now time.Time) []*pair.Pair
	begin := func(j *pair.Joiner, now time.Time) []*pair.Pair { j.OpenPrimary("k", now); return nil }
	primary := func(copies int) step {
		return func(j *pair.Joiner, now time.Time) []*pair.Pair { return j.Primary("k", exchange("r"), copies, now) }
	}
	open := func(version string) step {
		return func(j *pair.Joiner, now time.Time) []*pair.Pair { j.OpenCopy("k", version, now); return nil }
	}
	copied := func(version string) step {
		return func(j *pair.Joiner, now time.Time) []*pair.Pair { return j.Copy("k", answer(version), now) }
	}
	silent := func(j *pair.Joiner, now time.Time) []*pair.Pair {
		return j.Copy("k", &pair.Answer{Version: "v2", Fault: pair.FaultSilent}, now)
	}
	abort := func(j *pair.Joiner, now time.Time) []*pair.Pair { j.Abort("k", now); return nil }
	refuse := func(j *pair.Joiner, now time.Time) []*pair.Pair { j.Refuse("k", "v2", now); return nil }
	after := func(d time.Duration) step {
		return func(j *pair.Joiner, now time.Time) []*pair.Pair { return j.Expire(now.Add(d)) }
	}
	for _, tt := range []struct {
		name  string
		steps []step
		pairs []string
		want  pair.Counts
	}{
		{"the copy comes later", []step{begin, open("v2"), primary(1), copied("v2")}, []string{"r:v2"}, pair.Counts{Pairs: 1}},
		{"the copy comes first", []step{begin, open("v2"), copied("v2"), primary(1)}, []string{"r:v2"}, pair.Counts{Pairs: 1}},
		{"the copy is seen first", []step{open("v2"), begin, copied("v2"), primary(1)}, []string{"r:v2"}, pair.Counts{Pairs: 1}},
		{"nobody told of beginnings", []step{primary(1), copied("v2")}, []string{"r:v2"}, pair.Counts{Pairs: 1}},
		{"two versions", []step{begin, copied("v2"), primary(2), copied("v3")}, []string{"r:v2", "r:v3"}, pair.Counts{Pairs: 2}},
		{"a share that drew no copy", []step{begin, primary(2), copied("v3"), after(3 * time.Second)}, []string{"r:v3"}, pair.Counts{Pairs: 1}},
		{"no copy at all", []step{begin, primary(1), after(3 * time.Second)}, nil, pair.Counts{Alone: 1}},
		{"a copy that begins late", []step{begin, primary(1), after(time.Second), open("v2"), after(time.Minute), copied("v2")}, []string{"r:v2"}, pair.Counts{Pairs: 1}},
		{"a copy that never ends", []step{begin, open("v2"), primary(1), after(6 * time.Minute), copied("v2")}, []string{"r:v2!no_answer"}, pair.Counts{Pairs: 1, Silent: 1, Late: 1}},
		{"a copy that did not answer", []step{begin, open("v2"), silent, primary(1)}, []string{"r:v2!no_answer"}, pair.Counts{Pairs: 1, Silent: 1}},
		{"the same copy twice", []step{begin, primary(2), copied("v2"), copied("v2"), after(time.Hour)}, []string{"r:v2"}, pair.Counts{Pairs: 1, Twice: 1}},
		{"the same copy twice, at first", []step{begin, copied("v2"), copied("v2"), primary(1)}, []string{"r:v2"}, pair.Counts{Pairs: 1, Twice: 1}},
		{"all over again", []step{begin, primary(1), copied("v2"), begin, open("v2"), primary(1), copied("v2")}, []string{"r:v2"}, pair.Counts{Pairs: 1, Twice: 1, Late: 1}},
		{"the user's twice", []step{begin, primary(2), primary(2), copied("v2"), copied("v3")}, []string{"r:v2", "r:v3"}, pair.Counts{Pairs: 2, Twice: 1}},
		{"the user went away", []step{begin, open("v2"), abort, copied("v2"), after(time.Hour)}, nil, pair.Counts{Orphan: 1}},
		{"the user went away later", []step{begin, copied("v2"), abort, after(time.Hour)}, nil, pair.Counts{Orphan: 1}},
		{"the user went away, and is told of", []step{begin, abort, primary(1), copied("v2"), after(time.Hour)}, nil, pair.Counts{Twice: 1, Orphan: 1}},
		{"the user's was not captured", []step{open("v2"), copied("v2"), after(3 * time.Second), primary(1)}, nil, pair.Counts{Orphan: 1, Late: 1}},
		{"a long answer to the user", []step{begin, open("v2"), copied("v2"), after(4 * time.Minute), primary(1)}, []string{"r:v2"}, pair.Counts{Pairs: 1}},
		{"the copy was refused", []step{begin, open("v2"), refuse, primary(1)}, nil, pair.Counts{Capped: 1}},
		{"the copy was refused later", []step{begin, primary(1), refuse}, nil, pair.Counts{Capped: 1}},
		{"the copy comes long after", []step{begin, primary(1), after(3 * time.Second), copied("v2")}, nil, pair.Counts{Alone: 1, Late: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := pair.NewJoiner(pair.Options{})
			var pairs []*pair.Pair
			for i, s := range tt.steps {
				pairs = append(pairs, s(j, start.Add(time.Duration(i)*time.Millisecond))...)
			}
			if diff := cmp.Diff(tt.pairs, told(pairs)); diff != "" {
				t.Errorf("pairs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, j.Counts()); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever comes, what waits is within the bounds.
func TestBounds(t *testing.T) {
	body := make([]byte, 10_000)
	for name, feed := range map[string]func(j *pair.Joiner, key string, now time.Time){
		"primaries": func(j *pair.Joiner, key string, now time.Time) {
			x := exchange(key)
			x.Request.Body = body
			j.Primary(key, x, 1, now)
		},
		"copies": func(j *pair.Joiner, key string, now time.Time) {
			j.Copy(key, &pair.Answer{Version: "v2", Content: pair.Content{Body: body}}, now)
		},
		"beginnings": func(j *pair.Joiner, key string, now time.Time) { j.OpenPrimary(key, now) },
		"aborted":    func(j *pair.Joiner, key string, now time.Time) { j.Abort(key, now) },
	} {
		for _, o := range []pair.Options{{Waiting: 10}, {Bytes: 100_000}, {Bytes: 1}, {Waiting: 1, Bytes: 20_000}} {
			t.Run(fmt.Sprintf("%s/%d/%d", name, o.Waiting, o.Bytes), func(t *testing.T) {
				j := pair.NewJoiner(o)
				for i := range 1000 {
					feed(j, fmt.Sprint(i), start)
					c := j.Counts()
					if o.Waiting > 0 && c.Waiting > o.Waiting || o.Bytes > 0 && c.Bytes > o.Bytes {
						t.Fatalf("after %d: %+v", i+1, c)
					}
				}
				c := j.Counts()
				if c.Given != uint64(1000-c.Waiting) && o.Bytes != 100_000 {
					t.Errorf("given up %d, %d wait", c.Given, c.Waiting)
				}
				j.Expire(start.Add(time.Hour))
				if c := j.Counts(); c.Waiting != 0 || c.Bytes != 0 {
					t.Errorf("at last: %+v", c)
				}
			})
		}
	}
}

// In any order, with any bounds: a pair is made at most once, of a request that
// came to its end, and nothing is left in the end.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		j := pair.NewJoiner(pair.Options{Waiting: 1 + rng.IntN(20), Bytes: 1 + rng.IntN(20_000), Wait: time.Second, Grace: 100 * time.Millisecond})
		seen := make(map[string]bool)
		complete := make(map[string]bool)
		now := start
		check := func(pairs []*pair.Pair) {
			for i, what := range told(pairs) {
				p := pairs[i]
				if id := p.RequestID + ":" + p.Shadow.Version; seen[id] {
					t.Fatalf("seed %d: %s twice", seed, what)
				} else {
					seen[id] = true
				}
				if !complete[p.RequestID] {
					t.Fatalf("seed %d: %s without the user's answer", seed, what)
				}
			}
		}
		for range 500 {
			key, version := fmt.Sprint(rng.IntN(20)), fmt.Sprintf("v%d", 2+rng.IntN(3))
			now = now.Add(time.Duration(rng.IntN(20)) * time.Millisecond)
			switch rng.IntN(8) {
			case 0, 1:
				j.OpenPrimary(key, now)
			case 2:
				j.OpenCopy(key, version, now)
			case 3:
				complete[key] = true
				x := exchange(key)
				x.Request.Body = make([]byte, rng.IntN(5000))
				check(j.Primary(key, x, rng.IntN(4), now))
			case 4, 5:
				check(j.Copy(key, answer(version), now))
			case 6:
				j.Abort(key, now)
			case 7:
				check(j.Expire(now))
			}
		}
		check(j.Expire(now.Add(time.Minute)))
		if c := j.Counts(); c.Waiting != 0 || c.Bytes != 0 || c.Pairs != uint64(len(seen)) {
			t.Fatalf("seed %d: %+v, %d pairs", seed, c, len(seen))
		}
	}
}

// BenchmarkJoin joins a request with one copy.
func BenchmarkJoin(b *testing.B) {
	j := pair.NewJoiner(pair.Options{})
	x, a := exchange("r"), answer("v2")
	b.ReportAllocs()
	for i := range b.N {
		key := fmt.Sprint(i)
		j.OpenPrimary(key, start)
		j.OpenCopy(key, "v2", start)
		j.Primary(key, x, 1, start)
		j.Copy(key, a, start)
	}
	if c := j.Counts(); c.Pairs != uint64(b.N) {
		b.Fatalf("%+v", c)
	}
}
