package rollout_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

// killedEnv makes the test binary the process that TestKill kills.
const killedEnv = "HEADGATE_ROLLOUT_TEST_KILLED"

func TestMain(m *testing.M) {
	if path := os.Getenv(killedEnv); path != "" {
		fmt.Fprintln(os.Stderr, busy(path))
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// busy moves a model to and fro for ever, by hand and by verdicts, and says after
// each move what is true.
func busy(path string) error {
	j, err := journal.Open(path)
	if err != nil {
		return err
	}
	f, o := newAutoFleet(), newOracle("w")
	c, err := rollout.New(context.Background(), rollout.Options{Journal: j, Publisher: f, Prober: &endpoints{}, Judge: o})
	if err != nil {
		return err
	}
	go func() { _ = c.Run(context.Background()) }()
	go func() {
		for range time.Tick(time.Millisecond) {
			o.alarm <- "churn"
		}
	}()
	if err := c.Apply(context.Background(), config(churn(from("v1"), release("v2"), gates))); err != nil {
		return err
	}
	for {
		for _, action := range []rollout.Action{
			rollout.ActionPause, rollout.ActionResume, rollout.ActionSkip, rollout.ActionSkip, rollout.ActionRollback, rollout.ActionRetry, "",
			rollout.ActionRetry,
		} {
			if action == "" {
				if err := broken(c, o); err != nil {
					return err
				}
				continue
			}
			s, err := c.Do(context.Background(), rollout.Command{Model: "churn", Action: action})
			if _, refused := err.(rollout.Refused); err != nil && !refused { //nolint:errorlint // the value itself
				return err
			}
			fmt.Println(told(s.Rollout, s.Phase, s.Step))
		}
	}
}

// broken has the judge roll back, and says so.
func broken(c *rollout.Controller, o *oracle) error {
	o.say("b")
	s, err := c.Wait(context.Background(), "churn", func(s rollout.Status) bool { return s.Phase == rollout.PhaseRolledBack })
	o.say("w")
	fmt.Println(told(s.Rollout, s.Phase, s.Step))
	return err
}

func told(number int, phase rollout.Phase, step int) string {
	return fmt.Sprintf("rollout %d %s step %d", number, phase, step)
}

// TestKill kills a process that changes states as fast as it can. The next one
// reads the state that was told last, or one that is at most a command ahead,
// and goes on from there.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	for range 8 {
		last := killed(t, path, time.Duration(rand.IntN(100))*time.Millisecond)
		j, err := journal.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var states []string
		var s rollout.State
		var n int64
		err = j.Replay(t.Context(), func(r rollout.Record) error {
			if n++; r.Seq != n {
				return fmt.Errorf("record %d has position %d", n, r.Seq)
			}
			s, err = rollout.Fold(s, r)
			step := -1
			if s.Running() {
				step = s.Rollout.Step
			}
			states = append(states, told(s.Rollout.Number, s.Phase, step))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if recent := states[max(0, len(states)-5):]; last != "" && !slices.Contains(recent, last) {
			t.Fatalf("the process said %q, the journal ends with %q", last, recent)
		}
		checkKept(t, j, s.Rollout.Number)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkKept: the evidence is of the last rollout that was looked at.
func checkKept(t *testing.T, j *journal.Journal, number int) {
	t.Helper()
	all, err := j.Evidence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept := all["churn"]
	if looks, err := strconv.Atoi(string(kept.Data)); kept.Model != "" && (err != nil || looks < 1 || kept.Rollout > number || kept.Rollout < number-1) {
		t.Fatalf("rollout %d: evidence %+v", number, kept)
	}
}

// killed runs the busy process, kills it some time after its first word, and
// returns its last whole word.
func killed(t *testing.T, path string, after time.Duration) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), killedEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var last string
	lines := bufio.NewReader(out)
	for first := true; ; first = false {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		last = line[:len(line)-1]
		if first {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait() // killed
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended by itself: %v", cmd.ProcessState)
	}
	return last
}
