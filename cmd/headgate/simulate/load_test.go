package simulate

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/headgate/headgate/routing/config"
)

const steps = "rollout: {steps: [{traffic: 10%, for: 1h}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}\n"

// TestScenario reads everything that a scenario can say.
func TestScenario(t *testing.T) {
	got := scenario(t, steps+`
traffic:
  rate: 90/min
  users: {number: 200, zipf: 1.5, failing: 1% at 30%}
  bursts: {every: 10m, for: 20s, rate: 5x, errors: 2%, latency: 1.5x}
  rhythm: {period: 12h, swing: 40%}
  gaps: {every: 2h, for: 30s}
stable: {errors: 0.5%, client_errors: 2%, latency: {median: 40ms, p99: 250ms}, error_latency: 5ms/20ms}
candidate: {from: 30m, errors: 4x, client_errors: 3%, latency: 2x}
until: 1d
`)
	stable := Truth{
		Errors: 0.005, ClientErrors: 0.02,
		Latency:      Latency{40 * time.Millisecond, 250 * time.Millisecond},
		ErrorLatency: Latency{5 * time.Millisecond, 20 * time.Millisecond},
	}
	bad := stable
	bad.Errors, bad.ClientErrors, bad.Latency = 0.02, 0.03, Latency{80 * time.Millisecond, 500 * time.Millisecond}
	want := &Scenario{
		Traffic: Traffic{
			Rate:   1.5,
			Users:  Users{Number: 200, Zipf: 1.5, Failing: 0.01, FailingRate: 0.3},
			Bursts: Bursts{Every: 10 * time.Minute, For: 20 * time.Second, Rate: 5, Errors: 0.02, Latency: 1.5},
			Rhythm: Rhythm{Period: 12 * time.Hour, Swing: 0.4},
			Gaps:   Gaps{Every: 2 * time.Hour, For: 30 * time.Second},
		},
		Stable: stable, Candidate: bad, From: 30 * time.Minute, Until: 24 * time.Hour,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Scenario{}, "Model")); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

// TestMistakes are told with line, path and rule.
func TestMistakes(t *testing.T) {
	const fine = "traffic: {rate: 2/s}\nstable: {errors: 1%}\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {"", "s.yaml: cannot be read as YAML: EOF"},
		"no YAML":         {"a: [", "s.yaml: cannot be read as YAML: line 1: did not find expected node content"},
		"list":            {"[]", "s.yaml:1: must be a mapping"},
		"nothing":         {"{}", "s.yaml:1: traffic: is missing\ns.yaml:1: stable: is missing\ns.yaml:1: needs model, the name of a model's file, or rollout"},
		"unknown":         {steps + "traffic: {rate: 2/s, burst: 1}\nstable: {}\n", "s.yaml:2: traffic.burst: unknown field; known are rate, users, bursts, rhythm, gaps"},
		"twice":           {steps + "stable: {errors: 1%, errors: 2%}\ntraffic: {rate: 2/s}\n", "s.yaml:2: stable.errors: is already in line 2"},
		"rate unit":       {steps + "traffic: {rate: 20}\nstable: {}\n", `s.yaml:2: traffic.rate: "20": must be a rate like 20/s or 90/min`},
		"no rate":         {steps + "traffic: {rate: 0/s}\nstable: {}\n", `s.yaml:2: traffic.rate: "0/s": must be more than 0/s and at most 10000000/s`},
		"part unit":       {steps + "traffic: {rate: 2/s}\nstable: {errors: 0.5}\n", `s.yaml:3: stable.errors: "0.5": must be a percentage like 0.5%`},
		"part":            {steps + "traffic: {rate: 2/s}\nstable: {errors: 101%}\n", `s.yaml:3: stable.errors: "101%": must be at most 100%`},
		"times":           {steps + fine + "candidate: {errors: 200x}\n", `s.yaml:4: candidate.errors: "200x": is more than all of the requests`},
		"time unit":       {steps + fine + "until: 90\n", `s.yaml:4: until: "90": has no unit; write 90s, 90m or 90h`},
		"short until":     {steps + fine + "until: 30m\n", "s.yaml: until: must be longer than the steps take, 1h0m0s"},
		"late harm":       {steps + fine + "candidate: {from: 2h, errors: 4x}\n", "s.yaml: candidate.from: must be before the steps are over, 1h0m0s"},
		"failing":         {steps + "traffic: {rate: 2/s, users: {number: 5, failing: 1%}}\nstable: {}\n", `s.yaml:2: traffic.users.failing: "1%": must be like "1% at 30%": this part of the users, whose requests fail at that rate`},
		"latency":         {steps + "traffic: {rate: 2/s}\nstable: {latency: {median: 2s, p99: 1s}}\n", "s.yaml:3: stable.latency: p99 must be more than the median, 2s"},
		"latency missing": {strings.Replace(steps, "error_rate, max: 1%", "latency_p99, max: 1s", 1) + fine, "s.yaml: stable.latency: is missing: a gate is on latency"},
		"burst":           {steps + "traffic: {rate: 2/s, bursts: {every: 10s, for: 20s}}\nstable: {}\n", "s.yaml: traffic.bursts.for: must be at least 1s, and shorter than every"},
		"both":            {"model: x.yaml\n" + steps + fine, "s.yaml:2: rollout: excludes model"},
		"no file":         {"model: nowhere.yaml\n" + fine, `s.yaml:1: model: "nowhere.yaml": no such file or directory`},
		"rollout":         {fine + "\nrollout:\n  steps: [{traffic: 10%, for: 1}]\n", "s.yaml:5: rollout.steps[0].traffic: 10%: the last step must be traffic: 100%; without for, the step before it waits for a person\ns.yaml:5: rollout.steps[0].for: 1: has no unit; write 1s, 1m or 1h"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			s, err := parse("s.yaml", []byte(c.text))
			if err == nil {
				err = s.check("s.yaml")
			}
			var all config.Errors
			if !errors.As(err, &all) || err.Error() != c.want {
				t.Errorf("got:\n%v\nwant:\n%s", err, c.want)
			}
		})
	}
}

// TestExamples can be read, and describe a candidate that should go back.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		s, err := Load(file, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		bad, _ := s.broken(s.Candidate)
		if ill, _ := s.broken(s.Stable); len(bad) == 0 || len(ill) > 0 {
			t.Errorf("%s: the candidate breaks %v and stable %v", file, bad, ill)
		}
	}
}
