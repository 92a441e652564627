package routing

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func modelPlan(key Key, weight Share, overrides ...Override) *ModelPlan {
	return &ModelPlan{
		Model:  &Model{Name: "m", Key: key, Overrides: overrides, Versions: []*Version{{Name: "v1"}, {Name: "v2"}, {Name: "v3"}}},
		Stable: "v1",
		Split:  Split{Salt: "m-r1", Ranges: []Range{{"v2", weight}, {"v1", Whole - weight}}},
	}
}

func TestDecide(t *testing.T) {
	byHeader := func(absent Absent) Key { return Key{Source: SourceHeader, Name: "x-user-id", Absent: absent} }
	byBody := Key{Source: SourceBody, Path: mustPath(t, "$.id"), Absent: AbsentCurrent}
	canary := Override{Version: "v3", Condition: Condition{Source: SourceHeader, Name: "canary", Op: OpEquals, Value: "true"}}
	staff := Override{Version: "v2", Condition: Condition{Source: SourceBody, Path: mustPath(t, "$.staff"), Op: OpPresent}}
	single := modelPlan(byHeader(AbsentCookie), 0, canary)
	single.Split.Ranges = []Range{{"v1", Whole}}
	bucket := func(key string) int { return Bucket("m-r1", key) }
	tests := []struct {
		name    string
		plan    *ModelPlan
		request request
		want    Decision
	}{
		{"key, in", modelPlan(byHeader(AbsentCookie), Share(bucket("bob")+1)), with("x-user-id", "bob"),
			Decision{Version: "v2", Reason: ReasonKey, Key: "bob", Bucket: bucket("bob")}},
		{"key, just out", modelPlan(byHeader(AbsentCookie), Share(bucket("bob"))), with("x-user-id", "bob"),
			Decision{Version: "v1", Reason: ReasonKey, Key: "bob", Bucket: bucket("bob")}},
		{"key by cookie", modelPlan(Key{Source: SourceCookie, Name: "uid"}, Whole), with("cookie", "x=y; uid=bob"),
			Decision{Version: "v2", Reason: ReasonKey, Key: "bob", Bucket: bucket("bob")}},
		{"key by query", modelPlan(Key{Source: SourceQuery, Name: "uid"}, Whole), with(":path", "/?uid=bob&a=b"),
			Decision{Version: "v2", Reason: ReasonKey, Key: "bob", Bucket: bucket("bob")}},
		{"key by body", modelPlan(byBody, Whole), withBody("$.id", "bob"),
			Decision{Version: "v2", Reason: ReasonKey, Key: "bob", Bucket: bucket("bob")}},
		{"key by body, empty", modelPlan(byBody, Whole), withBody("$.id", ""),
			Decision{Version: "v1", Reason: ReasonCurrent, Bucket: -1}},
		{"key by body, only a header", modelPlan(byBody, Whole), with("", "bob"),
			Decision{Version: "v1", Reason: ReasonCurrent, Bucket: -1}},
		{"key, repeated", modelPlan(byHeader(AbsentCookie), Whole), with("x-user-id", "b", "x-user-id", "a"),
			Decision{Version: "v2", Reason: ReasonKey, Key: "b,a", Bucket: bucketOf([]string{"m-r1/a", "m-r1/b"})}},
		{"key, repeated and once empty", modelPlan(byHeader(AbsentCookie), Whole), with("x-user-id", "", "x-user-id", "a"),
			Decision{Version: "v2", Reason: ReasonKey, Key: "a", Bucket: bucketOf([]string{"", "m-r1/a"})}},
		{"key, repeated and empty", modelPlan(byHeader(AbsentCurrent), Whole), with("x-user-id", "", "x-user-id", ""),
			Decision{Version: "v1", Reason: ReasonCurrent, Bucket: -1}},
		{"cookie", modelPlan(byHeader(AbsentCookie), Whole), with("cookie", "hg=bob", HeaderDraw, "d"),
			Decision{Version: "v2", Reason: ReasonCookie, Key: "bob", Bucket: bucket("bob")}},
		{"cookie, but a key", modelPlan(byHeader(AbsentCookie), Whole), with("cookie", "hg=bob", "x-user-id", "u"),
			Decision{Version: "v2", Reason: ReasonKey, Key: "u", Bucket: bucket("u")}},
		{"draw", modelPlan(byHeader(AbsentCookie), Whole), with("x-user-id", "", HeaderDraw, "bob"),
			Decision{Version: "v2", Reason: ReasonDraw, Key: "bob", Bucket: bucket("bob")}},
		{"draw for each request", modelPlan(byHeader(AbsentRequest), Whole), with("cookie", "hg=x", HeaderDraw, "bob"),
			Decision{Version: "v2", Reason: ReasonDraw, Key: "bob", Bucket: bucket("bob")}},
		{"current", modelPlan(byHeader(AbsentCurrent), Whole), with("cookie", "hg=x", HeaderDraw, "d"),
			Decision{Version: "v1", Reason: ReasonCurrent, Bucket: -1}},
		{"nothing to draw with", modelPlan(byHeader(AbsentCookie), 5001), with(),
			Decision{Version: "v2", Reason: ReasonUndecided, Bucket: -1}},
		{"nothing to draw with for each request", modelPlan(byHeader(AbsentRequest), 5000), with(),
			Decision{Version: "v1", Reason: ReasonUndecided, Bucket: -1}},
		{"no key is configured", modelPlan(Key{Absent: AbsentRequest}, Whole), with("", "x", HeaderDraw, "bob"),
			Decision{Version: "v2", Reason: ReasonDraw, Key: "bob", Bucket: bucket("bob")}},
		{"only one version", single, with("x-user-id", "bob"),
			Decision{Version: "v1", Reason: ReasonOnly, Bucket: -1}},
		{"override of the only version", single, with("canary", "true"),
			Decision{Version: "v3", Reason: ReasonOverride, Bucket: -1}},
		{"first override", modelPlan(byBody, 0, canary, staff),
			request{headers: [][2]string{{"canary", "true"}}, body: map[string]string{"$.staff": "1"}},
			Decision{Version: "v3", Reason: ReasonOverride, Bucket: -1}},
		{"second override", modelPlan(byBody, 0, canary, staff), withBody("$.staff", "1"),
			Decision{Version: "v2", Reason: ReasonOverride, Rule: 1, Bucket: -1}},
		{"no override", modelPlan(byBody, 0, canary, staff), with("canary", "false"),
			Decision{Version: "v1", Reason: ReasonCurrent, Bucket: -1}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, Decide(test.plan, test.request)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func plans() *rapid.Generator[*ModelPlan] {
	conditions := []Condition{
		{Source: SourceHeader, Name: "canary", Op: OpPresent},
		{Source: SourceCookie, Name: "hg", Op: OpPrefix, Value: "a"},
		{Source: SourceQuery, Name: "uid", Op: OpContains, Value: "1"},
		{Source: SourceBody, Path: Path{{Name: "id"}}, Op: OpIn, Values: []string{"", "a"}},
	}
	return rapid.Custom(func(t *rapid.T) *ModelPlan {
		p := modelPlan(Key{
			Source: rapid.SampledFrom([]Source{"", SourceHeader, SourceCookie, SourceQuery, SourceBody}).Draw(t, "source"),
			Name:   rapid.SampledFrom([]string{"x-user-id", "uid"}).Draw(t, "key"),
			Path:   Path{{Name: "id"}},
			Absent: rapid.SampledFrom([]Absent{AbsentCookie, AbsentRequest, AbsentCurrent}).Draw(t, "absent"),
		}, Share(rapid.IntRange(0, int(Whole)).Draw(t, "weight")))
		for _, c := range rapid.SliceOfN(rapid.SampledFrom(conditions), 0, 2).Draw(t, "overrides") {
			p.Model.Overrides = append(p.Model.Overrides, Override{Condition: c, Version: "v3"})
		}
		if rapid.IntRange(0, 4).Draw(t, "alone") == 0 {
			p.Split.Ranges = []Range{{"v1", Whole}}
		}
		return p
	})
}

// Every request gets a version that the plan uses, for a reason that fits, and
// the same one each time.
func TestDecideIsTotalAndDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, r := plans().Draw(t, "plan"), requests().Draw(t, "request")
		d := Decide(p, r)
		if diff := cmp.Diff(d, Decide(p, r)); diff != "" {
			t.Fatalf("twice: %s", diff)
		}
		if !p.uses(d.Version) {
			t.Fatalf("%+v: the plan does not use this version", d)
		}
		switch d.Reason {
		case ReasonKey, ReasonCookie, ReasonDraw:
			if d.Key == "" || d.Bucket < 0 || d.Bucket >= int(Whole) || d.Version != p.Split.Version(d.Bucket) {
				t.Fatalf("%+v", d)
			}
		case ReasonOverride, ReasonOnly, ReasonCurrent, ReasonUndecided:
			if d.Key != "" || d.Bucket != -1 {
				t.Fatalf("%+v", d)
			}
		default:
			t.Fatalf("%+v: no such reason", d)
		}
	})
}

// A larger share of the candidate takes nobody from it, and changes nothing
// but the version.
func TestDecideIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, r := plans().Draw(t, "plan"), requests().Draw(t, "request")
		if len(p.Split.Ranges) == 1 {
			return
		}
		larger := *p
		w := p.Split.Ranges[0].Weight
		w += Share(rapid.IntRange(0, int(Whole-w)).Draw(t, "more"))
		larger.Split.Ranges = []Range{{"v2", w}, {"v1", Whole - w}}
		before, after := Decide(p, r), Decide(&larger, r)
		if before.Version == "v2" && after.Version != "v2" {
			t.Fatalf("%+v, and at %s %+v", before, w, after)
		}
		after.Version = before.Version
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatal(diff)
		}
	})
}

// hot are the requests of the usual kinds, none of which may allocate.
func hot(t testing.TB) map[string]func() {
	canary := Override{Version: "v2", Condition: Condition{Source: SourceHeader, Name: "canary", Op: OpEquals, Value: "true"}}
	usual := with(":method", "POST", ":path", "/predict?a=b&uid=u-1&c=d", ":authority", "example.com", "accept", "*/*",
		"cookie", "session=abc; uid=u-1; hg=0b5e8f7e", "x-user-id", "u-1", HeaderDraw, "0b5e8f7e-1f0e-4a52-9e0b-6a7f9a3c1d2e")
	run := func(p *ModelPlan, r request, want Reason) func() {
		// One allocation to make the request a Subject is the test's own.
		var s Subject = r
		if got := Decide(p, s).Reason; got != want {
			t.Fatalf("%+v: %s, want %s", p.Model.Key, got, want)
		}
		return func() { Decide(p, s) }
	}
	by := func(source Source, name string, absent Absent) *ModelPlan {
		return modelPlan(Key{Source: source, Name: name, Absent: absent}, 3000, canary)
	}
	return map[string]func(){
		"header":   run(by(SourceHeader, "x-user-id", AbsentCookie), usual, ReasonKey),
		"cookie":   run(by(SourceCookie, "uid", AbsentCookie), usual, ReasonKey),
		"query":    run(by(SourceQuery, "uid", AbsentCookie), usual, ReasonKey),
		"ours":     run(by(SourceHeader, "x-none", AbsentCookie), usual, ReasonCookie),
		"draw":     run(by(SourceHeader, "x-none", AbsentRequest), usual, ReasonDraw),
		"current":  run(by(SourceHeader, "x-none", AbsentCurrent), usual, ReasonCurrent),
		"override": run(by(SourceHeader, "x-user-id", AbsentCookie), with("canary", "true"), ReasonOverride),
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	for name, decide := range hot(t) {
		if n := testing.AllocsPerRun(100, decide); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for name, decide := range hot(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decide()
			}
		})
	}
}

func TestUses(t *testing.T) {
	canary := Override{Version: "v3"}
	got := map[string]string{}
	for name, p := range map[string]*ModelPlan{
		"rollout":  modelPlan(Key{}, 0),
		"override": modelPlan(Key{}, 0, canary, canary),
	} {
		for _, v := range p.Uses() {
			got[name] += v.Name + " "
		}
	}
	if diff := cmp.Diff(map[string]string{"rollout": "v1 v2 ", "override": "v1 v2 v3 "}, got); diff != "" {
		t.Error(diff)
	}
}

func TestNeedsExtProc(t *testing.T) {
	body := Condition{Source: SourceBody, Path: mustPath(t, "$.a")}
	type need struct {
		ExtProc bool
		Why     string
		Body    bool
	}
	for _, test := range []struct {
		model Model
		want  need
	}{
		{Model{Key: Key{Source: SourceHeader, Name: "a"}, Decide: DecideNative}, need{}},
		{Model{Decide: DecideExtProc}, need{true, "decide: ext_proc", false}},
		{Model{Key: Key{Source: SourceBody, Name: "$.a"}}, need{true, "the key $.a is in the body", true}},
		{Model{Overrides: []Override{{}, {Condition: body}}}, need{true, "overrides[1] reads the body", true}},
		{Model{Decide: DecideExtProc, Overrides: []Override{{Condition: body}}}, need{true, "decide: ext_proc", true}},
	} {
		var got need
		got.ExtProc, got.Why = test.model.NeedsExtProc()
		got.Body = test.model.NeedsBody()
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestNames(t *testing.T) {
	model, version, ok := ParseClusterName(ClusterName("churn", "v2.0.0"))
	if model != "churn" || version != "v2.0.0" || !ok {
		t.Error(model, version, ok)
	}
	if _, _, ok := ParseClusterName("headgate_xds"); ok {
		t.Error("a name without a version is taken for a version's cluster")
	}
	c := Config{Models: []*Model{{Name: "a"}, {Name: "b", Versions: []*Version{{Name: "v1"}}}}}
	p := Plan{Models: []*ModelPlan{{Model: c.Models[0]}, {Model: c.Models[1]}}}
	if c.Model("b") != c.Models[1] || p.Model("b") != p.Models[1] || c.Model("b").Version("v1") == nil {
		t.Error("what is there is not found")
	}
	if c.Model("c") != nil || p.Model("c") != nil || c.Model("b").Version("v9") != nil {
		t.Error("what is not there is found: " + fmt.Sprint(c.Model("c"), p.Model("c")))
	}
}
