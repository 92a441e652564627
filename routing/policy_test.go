package routing

import "testing"

func TestPlace(t *testing.T) {
	at := func(line int) Position { return Position{File: "m.yaml", Line: line} }
	m := &Model{Source: at(1), Places: []Place{{"rollout", at(2)}, {"rollout.gates[1]", at(3)}, {"versions.v1.0.tls", at(4)}}}
	for path, want := range map[string]int{
		"": 1, "key": 1, "rollout": 2, "rollout.gates": 2, "rollout.gates[0]": 2, "rollout.gates[1]": 3, "rollout.gates[1].max": 3,
		"rollout.gates[12]": 2, "versions.v1.0.tls.ca": 4, "versions.v1.0": 1, "rolloutX": 1, "a..b[": 1,
	} {
		if got := m.Place(path); got.Line != want {
			t.Errorf("%q: got line %d, want %d", path, got.Line, want)
		}
	}
}

func TestControlString(t *testing.T) {
	for want, c := range map[string]Control{
		"none": {}, "mirror": {Mirror: true, Share: Whole}, "mirror 10%": {Mirror: true, Share: 1_000}, "1.5%": {Share: 150},
	} {
		if got := c.String(); got != want {
			t.Errorf("%+v: got %q, want %q", c, got, want)
		}
	}
}
