package rollout_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

// sink takes plans and has nobody to give them to.
type sink struct{ changed chan struct{} }

func (sink) Publish(*routing.Plan, []string)        {}
func (sink) Delivery(string) rollout.Delivery       { return rollout.Delivery{} }
func (sink) Inventory() (map[string][]string, bool) { return nil, true }
func (s sink) Changed() <-chan struct{}             { return s.changed }

func many(n int) []*routing.Model {
	models := make([]*routing.Model, n)
	for i := range models {
		models[i] = churn(named(fmt.Sprintf("m%05d", i)))
	}
	models[0] = churn(named("m00000"), from("v1"), release("v2"))
	return models
}

func benched(b *testing.B, j rollout.Journal, models []*routing.Model) *rollout.Controller {
	b.Helper()
	return benchedWith(b, rollout.Options{Journal: j, Publisher: sink{}, Prober: &endpoints{}}, models)
}

func benchedWith(b *testing.B, o rollout.Options, models []*routing.Model) *rollout.Controller {
	b.Helper()
	c, err := rollout.New(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended })
	if err := c.Apply(b.Context(), config(models...)); err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkWeight is a change of one model's weights, from the command to the
// published plan: with a journal in memory, so without the disk.
func BenchmarkWeight(b *testing.B) {
	for _, n := range []int{1, 1_000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			c := benched(b, journal.NewMemory(), many(n))
			weight(b, c)
		})
	}
}

// BenchmarkWeightOnDisk is the same with SQLite.
func BenchmarkWeightOnDisk(b *testing.B) {
	j, err := journal.Open(b.TempDir() + "/journal.db")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = j.Close() })
	weight(b, benched(b, j, many(10_000)))
}

func weight(b *testing.B, c *rollout.Controller) {
	b.Helper()
	_, err := c.Wait(b.Context(), "m00000", func(s rollout.Status) bool { return s.Weights["v2"] == 10 })
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for i := range b.N {
		action := rollout.ActionRollback
		if i%2 == 1 {
			action = rollout.ActionRetry
		}
		if _, err := c.Do(b.Context(), rollout.Command{Model: "m00000", Action: action}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLook is a look at a model that moves nothing, from the alarm to the
// new state, with many others on trial.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			models := many(n)
			for _, m := range models {
				from("v1")(m)
				release("v2")(m)
				gates(m)
			}
			o := newOracle("w")
			o.silent = true
			c := benchedWith(b, rollout.Options{Journal: journal.NewMemory(), Publisher: sink{}, Prober: &endpoints{}, Judge: o}, models)
			for _, m := range models {
				if _, err := c.Wait(b.Context(), m.Name, func(s rollout.Status) bool { return s.Weights["v2"] == 10 }); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for range b.N {
				o.alarm <- "m00000"
			}
		})
	}
}

// BenchmarkApply is a configuration in which one model of many is another:
// with the same pointers for the rest, and with all of them read anew.
func BenchmarkApply(b *testing.B) {
	for _, fresh := range []bool{false, true} {
		b.Run(fmt.Sprintf("10000/all_new_%t", fresh), func(b *testing.B) {
			models := many(10_000)
			c := benched(b, journal.NewMemory(), models)
			edits := [2]*routing.Config{}
			for i := range edits {
				if fresh {
					models = many(10_000)
				}
				all := append([]*routing.Model{}, models...)
				all[7] = churn(named("m00007"), func(m *routing.Model) { m.Timeout = 1 << i })
				edits[i] = config(all...)
			}
			b.ResetTimer()
			for i := range b.N {
				if err := c.Apply(b.Context(), edits[i%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
