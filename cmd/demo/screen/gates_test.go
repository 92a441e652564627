package screen

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
)

// findings returns the gates of a recorded status.
func findings(name string) []routing.Finding {
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		panic(err)
	}
	var status struct{ Gates []routing.Finding }
	if err := json.Unmarshal(data, &status); err != nil {
		panic(err)
	}
	return status.Gates
}

func ptr(v float64) *float64 { return &v }

func TestScale(t *testing.T) {
	rate := routing.Finding{Bound: routing.BoundMax, Limit: 0.02, Unit: routing.UnitRate}
	points := routing.Finding{Bound: routing.BoundMaxIncrease, Limit: 0.01, Unit: routing.UnitPoints}
	none := routing.Finding{Bound: routing.BoundMaxIncrease, Limit: 1, Unit: routing.UnitRatio}
	seconds := routing.Finding{Bound: routing.BoundMax, Limit: 0.25, Unit: routing.UnitSeconds}
	for _, tc := range []struct {
		name                string
		finding             routing.Finding
		verdict             routing.Verdict
		estimate, low, high *float64
		want                string
	}{
		{"nothing yet", rate, "waiting", nil, nil, nil, "··········│··········"},
		{"no request", rate, "waiting", nil, ptr(0), ptr(1), "━━━━━━━━━━┿━━━━━━━━━━"},
		{"no upper end", rate, "waiting", ptr(0.03), ptr(0.004), nil, "···━━━━━━━┿━●━━━━━━━━"},
		{"wide", rate, "waiting", ptr(0), ptr(0), ptr(0.1), "●━━━━━━━━━┿━━━━━━━···"},
		{"narrower", rate, "waiting", ptr(0.01), ptr(0.002), ptr(0.03), "·━━━━━━●━━┿━━········"},
		{"safe", rate, "safe", ptr(0), ptr(0), ptr(0.019), "●━━━━━━━━━│··········"},
		{"just safe", rate, "safe", ptr(0.0198), ptr(0.0197), ptr(0.0199), "·········●│··········"},
		{"broken", rate, "breach", ptr(0.08), ptr(0.0201), ptr(0.2), "··········│━━━━━●━━━·"},
		{"just broken", rate, "breach", ptr(0.0201), ptr(0.0201), ptr(0.0202), "··········│●·········"},
		{"everything fails", rate, "breach", ptr(1), ptr(0.5), ptr(1), "··········│·········●"},
		{"increase, no request", points, "waiting", nil, ptr(-1), ptr(1), "━━━━━━━━━━┿━━━━━━━━━━"},
		{"no increase", points, "safe", ptr(0), ptr(-0.01), ptr(0.005), "···━━●━━··│··········"},
		{"no increase allowed", none, "waiting", ptr(1), ptr(0.99), ptr(1.02), "·····━━━━━●━━━━━━━···"},
		{"quick", seconds, "safe", ptr(0.003), ptr(0.002), ptr(0.01), "●·········│··········"},
		{"slow", seconds, "breach", ptr(0.402), ptr(0.401), ptr(0.405), "··········│·●········"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.finding
			f.Verdict, f.Estimate, f.Low, f.High = tc.verdict, tc.estimate, tc.low, tc.high
			if got := scale(&f, Palette{}); got != tc.want || utf8.RuneCountInString(got) != scaleWidth {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// A bar never tells the other side of the limit than the verdict.
func TestScaleKeepsItsSide(t *testing.T) {
	for _, limit := range []float64{0.0001, 0.02, 0.5} {
		for _, off := range []float64{1e-9, 1e-4, 0.01, 1, 100} {
			f := routing.Finding{Bound: routing.BoundMax, Limit: limit, Unit: routing.UnitRate, Verdict: routing.VerdictSafe}
			f.Estimate, f.Low, f.High = ptr(limit/(1+2*off)), ptr(0), ptr(limit/(1+off))
			safe := []rune(scale(&f, Palette{}))
			if strings.ContainsAny(string(safe[scaleWidth/2:]), "━●┿") {
				t.Errorf("safe, limit %v, off by %v: %s", limit, off, string(safe))
			}
			f.Verdict, f.Estimate, f.Low, f.High = routing.VerdictBreach, ptr(limit*(1+2*off)), ptr(limit*(1+off)), ptr(1)
			broken := []rune(scale(&f, Palette{}))
			if strings.ContainsAny(string(broken[:scaleWidth/2+1]), "━●┿") {
				t.Errorf("broken, limit %v, off by %v: %s", limit, off, string(broken))
			}
		}
	}
}

func TestLimit(t *testing.T) {
	for want, f := range map[string]routing.Finding{
		"error_rate ≤ 2%":     {Metric: "error_rate", Bound: routing.BoundMax, Limit: 0.02, Unit: routing.UnitRate},
		"error_rate ≤ +0.5pp": {Metric: "error_rate", Bound: routing.BoundMaxIncrease, Limit: 0.005, Unit: routing.UnitPoints},
		"error_rate ≤ +50%":   {Metric: "error_rate", Bound: routing.BoundMaxIncrease, Limit: 1.5, Unit: routing.UnitRatio},
		"latency_p95 ≤ 250ms": {Metric: "latency_p95", Bound: routing.BoundMax, Limit: 0.25, Unit: routing.UnitSeconds},
		"latency_p95 ≤ 12s":   {Metric: "latency_p95", Bound: routing.BoundMax, Limit: 12, Unit: routing.UnitSeconds},
		"latency_p95 ≤ +20ms": {Metric: "latency_p95", Bound: routing.BoundMaxIncrease, Limit: 0.02, Unit: routing.UnitSeconds},
		"accuracy drop ≤ 2pp": {Metric: "accuracy", Bound: routing.BoundMaxDrop, Limit: 0.02, Unit: routing.UnitPoints},
		"gross_failure":       {Metric: "gross_failure", HardRule: true},
		"excess ≤ 40":         {Metric: "excess", Bound: routing.BoundMax, Limit: 40, Unit: routing.UnitCount},
		"error_rate ≤ 0.01%":  {Metric: "error_rate", Bound: routing.BoundMax, Limit: 0.0001, Unit: routing.UnitRate},
		"error_rate ≤ 0pp":    {Metric: "error_rate", Bound: routing.BoundMaxIncrease, Unit: routing.UnitPoints},
		"latency_mean ≤ 1.2s": {Metric: "latency_mean", Bound: routing.BoundMax, Limit: 1.2, Unit: routing.UnitSeconds},
	} {
		if got := Limit(&f); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestFigures(t *testing.T) {
	for want, f := range map[string]routing.Finding{
		"":                  {Verdict: routing.VerdictWaiting, Reason: routing.ReasonNoEvidence},
		"0.75% (0.05–1)":    {Verdict: routing.VerdictSafe, Unit: routing.UnitRate, Estimate: ptr(0.0075), Low: ptr(0.0005), High: ptr(0.01)},
		"telemetry gap":     {Verdict: routing.VerdictWaiting, Reason: routing.ReasonTelemetryGap, Estimate: ptr(1)},
		"1.3% (0.2–4.4)":    {Verdict: routing.VerdictSafe, Unit: routing.UnitRate, Estimate: ptr(0.0131), Low: ptr(0.00204), High: ptr(0.0441)},
		"12% (0–100)":       {Verdict: routing.VerdictSafe, Unit: routing.UnitRate, Estimate: ptr(0.1234), Low: ptr(0), High: ptr(1)},
		"+7.1pp (-0.5–14)":  {Verdict: routing.VerdictSafe, Unit: routing.UnitPoints, Estimate: ptr(0.0714), Low: ptr(-0.005), High: ptr(0.14)},
		"0pp (-1–1)":        {Verdict: routing.VerdictSafe, Unit: routing.UnitPoints, Estimate: ptr(-0.000001), Low: ptr(-0.01), High: ptr(0.01)},
		"1s (900ms–1.1)":    {Verdict: routing.VerdictSafe, Unit: routing.UnitSeconds, Estimate: ptr(0.9996), Low: ptr(0.9), High: ptr(1.1)},
		"402ms (2.9–405)":   {Verdict: routing.VerdictSafe, Unit: routing.UnitSeconds, Estimate: ptr(0.4021), Low: ptr(0.00291), High: ptr(0.405)},
		"910ms (430–)":      {Verdict: routing.VerdictWaiting, Reason: routing.ReasonNoEvidence, Unit: routing.UnitSeconds, Estimate: ptr(0.91), Low: ptr(0.43)},
		"2.1ms":             {Verdict: routing.VerdictSafe, Unit: routing.UnitSeconds, Estimate: ptr(0.0021)},
		"+10% (-10–20)":     {Verdict: routing.VerdictSafe, Unit: routing.UnitRatio, Estimate: ptr(1.1), Low: ptr(0.9), High: ptr(1.2)},
		"15s (30ms–60)":     {Verdict: routing.VerdictSafe, Unit: routing.UnitSeconds, Estimate: ptr(15.21), Low: ptr(0.03), High: ptr(60.1)},
		"no traffic":        {Verdict: routing.VerdictWaiting, Reason: routing.ReasonNoTraffic},
		"not measurable":    {Verdict: routing.VerdictWaiting, Reason: routing.ReasonNotMeasurable, Bound: routing.BoundMax},
		"nobody to compare": {Verdict: routing.VerdictWaiting, Reason: routing.ReasonNotMeasurable, Bound: routing.BoundMaxIncrease},
		"baseline ill":      {Verdict: routing.VerdictWaiting, Reason: routing.ReasonBaselineIll},
		"not acknowledged":  {Verdict: routing.VerdictWaiting, Reason: routing.ReasonNotAcknowledged},
		"3 (1–9)":           {Verdict: routing.VerdictSafe, Unit: routing.UnitCount, Estimate: ptr(3), Low: ptr(1), High: ptr(9)},
	} {
		if got := figures(&f); got != want || utf8.RuneCountInString(cut(got, figuresWidth)) < utf8.RuneCountInString(want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestLoudest(t *testing.T) {
	name := func(f *routing.Finding) string {
		if f == nil {
			return ""
		}
		return f.Metric
	}
	safe := routing.Finding{Metric: "safe", Verdict: routing.VerdictSafe}
	waiting := routing.Finding{Metric: "waiting", Verdict: routing.VerdictWaiting, Reason: routing.ReasonNoEvidence}
	hard := routing.Finding{Metric: "hard", Verdict: routing.VerdictWaiting, HardRule: true}
	broken := routing.Finding{Metric: "broken", Verdict: routing.VerdictBreach}
	for _, tc := range []struct {
		findings []routing.Finding
		want     string
	}{
		{nil, ""},
		{[]routing.Finding{safe, hard}, ""},
		{[]routing.Finding{hard, safe, waiting}, "waiting"},
		{[]routing.Finding{waiting, broken}, "broken"},
	} {
		if diff := cmp.Diff(tc.want, name(Loudest(tc.findings))); diff != "" {
			t.Errorf("(-want +got): %s", diff)
		}
	}
}
