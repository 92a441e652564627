package model

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func load(t *testing.T) *Data {
	t.Helper()
	d, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func cook(t *testing.T, r Recipe) *Model {
	t.Helper()
	m, err := Cook(load(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDataIsWhatTheSourceFileSays(t *testing.T) {
	sum := sha256.Sum256([]byte(wdbc))
	const want = "75b8021d12b47399e50ab6ca4fbc11a8435f91540ecb6bb2434de557a5049510"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("wdbc.csv has SHA-256 %s, want %s", got, want)
	}
}

func TestLoad(t *testing.T) {
	d := load(t)
	if got := len(d.Features); got != 30 {
		t.Errorf("%d features, want 30", got)
	}
	count := func(rows []Row) (all, malignant int) {
		for _, r := range rows {
			if r.Malignant {
				malignant++
			}
		}
		return len(rows), malignant
	}
	type counts struct{ Train, TrainMalignant, HeldOut, HeldOutMalignant int }
	var got counts
	got.Train, got.TrainMalignant = count(d.Train)
	got.HeldOut, got.HeldOutMalignant = count(d.HeldOut)
	if diff := cmp.Diff(counts{342, 128, 227, 84}, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if got := d.Train[0].Values[d.Index("area_worst")]; got != 2019 {
		t.Errorf("area_worst of the first row is %v, want 2019", got)
	}
	if got := d.Index("length"); got != -1 {
		t.Errorf("Index of an unknown feature is %d, want -1", got)
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ name, csv, want string }{
		{"empty", "", "no rows"},
		{"diagnosis", "a,diagnosis\n1,maybe\n", `line 2: diagnosis: "maybe": must be malignant or benign`},
		{"number", "a,diagnosis\n1,benign\nx,benign\n", `line 3: strconv.ParseFloat: parsing "x": invalid syntax`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parse(strings.NewReader(tc.csv))
			if err == nil || err.Error() != tc.want {
				t.Errorf("error %v, want %s", err, tc.want)
			}
		})
	}
}

// The coefficients are those of scikit-learn 1.9.1, LogisticRegression with
// C = 1/(0.01·342), solver newton-cholesky, on the same standardised rows.
func TestFitAgreesWithScikitLearn(t *testing.T) {
	near := cmpopts.EquateApprox(0, 1e-6)
	for recipe, want := range map[Recipe][]float64{
		Size:    {2.59014814, 0.54405989, -0.63295721},
		Surface: {0.96012118, 0.98498829, -0.67753128},
		Full: {
			0.35283077, 0.2954958, 0.33874759, 0.36734634, 0.17860396,
			-0.19372565, 0.5321773, 0.65706551, 0.06964272, -0.3207346,
			0.6344182, 0.06020403, 0.36844501, 0.47929336, -0.048179,
			-0.3721375, -0.01311717, 0.19737366, -0.13105948, -0.37059455,
			0.61149106, 0.72275032, 0.51587996, 0.59100812, 0.57534252,
			-0.04518401, 0.54869642, 0.66266396, 0.55819675, 0.11345659,
			-0.49791972,
		},
	} {
		if diff := cmp.Diff(want, cook(t, recipe).weights, near); diff != "" {
			t.Errorf("%s: weights (-scikit-learn +got):\n%s", recipe, diff)
		}
	}
	first := load(t).Train[0].Values
	if got := cook(t, Size).Probability(first[:2]); math.Abs(got-0.72287806) > 1e-6 {
		t.Errorf("size: probability of the first row is %v, want 0.72287806", got)
	}
	if got := cook(t, Full).Probability(first); math.Abs(got-0.99999558) > 1e-6 {
		t.Errorf("full: probability of the first row is %v, want 0.99999558", got)
	}
}

func TestAccuracyOnHeldOutRows(t *testing.T) {
	d := load(t)
	got := map[Recipe]float64{}
	for _, r := range Recipes() {
		got[r] = cook(t, r).Accuracy(d, d.HeldOut)
	}
	want := map[Recipe]float64{Size: 204.0 / 227, Full: 222.0 / 227, Surface: 175.0 / 227}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("accuracy (-want +got):\n%s", diff)
	}
	if gain := got[Full] - got[Size]; gain < 0.02 {
		t.Errorf("full is better than size by %.3f, want 0.02 at least", gain)
	}
}

func TestFitIsDeterministic(t *testing.T) {
	a, b := cook(t, Full), cook(t, Full)
	if diff := cmp.Diff(a, b, cmp.AllowUnexported(Model{})); diff != "" {
		t.Errorf("two fits differ:\n%s", diff)
	}
}

func TestUnknownNames(t *testing.T) {
	if _, err := Cook(load(t), "best"); err == nil || err.Error() != `"best": must be one of size, full, surface` {
		t.Errorf("unknown recipe: %v", err)
	}
	if _, err := Fit(load(t), []string{"length"}); err == nil || err.Error() != "fit: length: no such feature" {
		t.Errorf("unknown feature: %v", err)
	}
}
