//go:build modelserver

package protocol_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare/protocol"
)

// modelServer starts an MLServer with the models of testdata/modelserver and
// returns its address. $MODELSERVER is a folder of a Python environment that
// has what testdata/modelserver/requirements.txt names.
func modelServer(t *testing.T) string {
	t.Helper()
	environment := os.Getenv("MODELSERVER")
	if environment == "" {
		t.Fatal("MODELSERVER must name a Python environment with MLServer")
	}
	dir := filepath.Join(t.TempDir(), "models")
	arguments := []string{"testdata/modelserver/models.py", dir}
	ports := freePorts(t, 3)
	if out, err := exec.Command(filepath.Join(environment, "bin/python"), slices.Concat(arguments, ports)...).CombinedOutput(); err != nil {
		t.Fatalf("train: %v\n%s", err, out)
	}
	var log bytes.Buffer
	server := exec.Command(filepath.Join(environment, "bin/mlserver"), "start", dir)
	server.Stdout, server.Stderr = &log, &log
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
		_ = server.Wait()
		if t.Failed() {
			t.Logf("%s", log.String())
		}
	})
	return "http://127.0.0.1:" + ports[0]
}

// freePorts returns ports that nobody listens on, no two the same.
func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

func ask(url, model string) (*protocol.Answer, error) {
	const request = `{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2,6.7,3.0,5.2,2.3]}],` +
		`"outputs":[{"name":"predict_proba"},{"name":"predict"}]}`
	answer, err := http.Post(url+"/v2/models/"+model+"/infer", "application/json", strings.NewReader(request))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return &protocol.Answer{
		Status: answer.StatusCode, ContentType: answer.Header.Get("Content-Type"),
		ContentEncoding: answer.Header.Get("Content-Encoding"), Body: body,
	}, err
}

// TestRealModelServer compares the answers of real scikit-learn models behind a
// real MLServer: twins agree, and one that learnt a feature in other units does
// not.
func TestRealModelServer(t *testing.T) {
	url := modelServer(t)
	deadline := time.Now().Add(3 * time.Minute)
	answer := func(model string) *protocol.Answer {
		for {
			a, err := ask(url, model)
			if err == nil && a.Status == http.StatusOK {
				return a
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v %+v", model, err, a)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	r := reader(t, protocol.Options{})
	c := comparer(t, protocol.Rule{Path: pattern(t, "$.outputs.predict"), As: protocol.AsLabel},
		protocol.Rule{Path: pattern(t, "$.outputs.predict_proba"), MaxVariation: 0.1})
	stable := answer("v1")
	if got := summary(protocol.Pair(r, c, stable, answer("twin"))); len(got) != 1 {
		t.Errorf("twins: %q", got)
	}
	var places []string
	for _, d := range protocol.Pair(r, c, stable, answer("v2")).Differences {
		places = append(places, fmt.Sprintf("%s %s", d.Path, d.Kind))
	}
	want := []string{"$.outputs.predict_proba[1] distribution", "$.outputs.predict[1] label"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("other units (-want +got):\n%s", diff)
	}
	unknown, err := ask(url, "nobody")
	if err != nil {
		t.Fatal(err)
	}
	if got := summary(protocol.Pair(r, c, stable, unknown)); len(got) != 2 || got[1] != "status status 200 404" {
		t.Errorf("an unknown model: %q", got)
	}
}
