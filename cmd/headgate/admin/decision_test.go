package admin_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/admin/admintest"
	"github.com/headgate/headgate/routing"
)

func TestDecision(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	ask := func(model string, r admin.Request) admin.Decision {
		t.Helper()
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return decode[admin.Decision](t, call(t, g, "POST", "/v1/models/"+model+"/decision", string(body)))
	}
	ranges := []admin.Range{{Version: "v2", From: 0, To: 1000}, {Version: "v1", From: 1000, To: 10000}}
	bucket := routing.Bucket("churn-r1", "ada")
	version := "v1"
	if bucket < 1000 {
		version = "v2"
	}
	for name, test := range map[string]struct {
		request admin.Request
		want    admin.Decision
	}{
		"key": {admin.Request{Key: "ada"},
			admin.Decision{Model: "churn", Version: version, Reason: "key", Rule: -1, Key: "ada", Salt: "churn-r1", Bucket: bucket, Ranges: ranges}},
		"override": {admin.Request{Key: "ada", Headers: map[string]string{"Canary": "true"}},
			admin.Decision{Model: "churn", Version: "v2", Reason: "override", Bucket: -1, Ranges: ranges}},
		"no key": {admin.Request{Path: "/x"},
			admin.Decision{Model: "churn", Version: "v1", Reason: "undecided", Rule: -1, Bucket: -1, Ranges: ranges}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, ask("churn", test.request)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if d := ask("fraud", admin.Request{Key: "ada"}); d.Reason != "only" || d.Version != "v1" {
		t.Errorf("fraud: %+v", d)
	}
	if a := call(t, g, "POST", "/v1/models/nothing/decision", "{}"); a.status != 404 {
		t.Errorf("unknown model: %d %s", a.status, a.body)
	}
}

// TestDecisionPutsTheKeyInItsPlace has a model for each place of a key.
func TestDecisionPutsTheKeyInItsPlace(t *testing.T) {
	path, err := routing.ParsePath("$.user")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []routing.Key{
		{Source: routing.SourceHeader, Name: "x-user-id"}, {Source: routing.SourceCookie, Name: "uid"},
		{Source: routing.SourceQuery, Name: "uid"}, {Source: routing.SourceBody, Name: "$.user", Path: path},
	} {
		p := &routing.ModelPlan{
			Model: &routing.Model{Name: "m", Key: key}, Stable: "v1",
			Split: routing.Split{Salt: "m-r1", Ranges: []routing.Range{{Version: "v2", Weight: 5000}, {Version: "v1", Weight: 5000}}},
		}
		got := admin.DecisionOf(p, admin.Request{Key: "ada", Path: "/p?q=1", Headers: map[string]string{"Cookie": "a=b"}})
		if want := routing.Bucket("m-r1", "ada"); got.Bucket != want || got.Key != "ada" || got.Reason != "key" {
			t.Errorf("%s: %+v, want bucket %d", key.Source, got, want)
		}
	}
}
