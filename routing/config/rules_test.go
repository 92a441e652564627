package config

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

func TestErrorAsJSON(t *testing.T) {
	e := Error{File: "a.yaml", Line: 3, Column: 7, Path: "timeout", Value: "5", Message: "has no unit"}
	got, err := json.Marshal(Errors{e})
	if err != nil {
		t.Fatal(err)
	}
	if want := `[{"file":"a.yaml","line":3,"path":"timeout","message":"5: has no unit"}]`; string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDurations(t *testing.T) {
	for word, want := range map[string]time.Duration{
		"1ms": time.Millisecond, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour,
		"1.5h": 90 * time.Minute, "0.5d": 12 * time.Hour, "365d": longestDuration,
		"": 0, "s": 0, "1": 0, "1.s": 0, ".5s": 0, "+1s": 0, "1 s": 0, "1us": 0, "1S": 0, "366d": 0, "0.1ms": 0,
		"99999999999999999999999d": 0,
	} {
		var d duration
		err := d.set(word)
		if (err == nil) != (want != 0) || err == nil && time.Duration(d) != want {
			t.Errorf("%q: got %v, %v; want %v", word, time.Duration(d), err, want)
		}
	}
}

// Which matches of one host and prefix can be told apart.
func TestTold(t *testing.T) {
	equals := func(name, value string) routing.Condition {
		return routing.Condition{Source: routing.SourceHeader, Name: name, Op: routing.OpEquals, Value: value}
	}
	in := func(name string, values ...string) routing.Condition {
		return routing.Condition{Source: routing.SourceHeader, Name: name, Op: routing.OpIn, Values: values}
	}
	prefix := func(name, value string) routing.Condition {
		return routing.Condition{Source: routing.SourceHeader, Name: name, Op: routing.OpPrefix, Value: value}
	}
	match := func(methods string, headers ...routing.Condition) routing.Match {
		return routing.Match{Methods: words(methods), Headers: headers}
	}
	for name, c := range map[string]struct {
		a, b routing.Match
		want bool
	}{
		"nothing asked":              {match(""), match(""), false},
		"one asks for more":          {match("", equals("a", "1")), match(""), true},
		"the same":                   {match("", equals("a", "1")), match("", equals("a", "1")), false},
		"other value":                {match("", equals("a", "1")), match("", equals("a", "2")), true},
		"other header":               {match("", equals("a", "1")), match("", equals("b", "1")), false},
		"more of the same":           {match("", equals("a", "1"), equals("b", "1")), match("", equals("a", "1")), true},
		"value in list":              {match("", equals("a", "1")), match("", in("a", "1", "2")), false},
		"value not in list":          {match("", equals("a", "3")), match("", in("a", "1", "2")), true},
		"lists apart":                {match("", in("a", "3")), match("", in("a", "1", "2")), true},
		"value under prefix":         {match("", equals("a", "xy")), match("", prefix("a", "x")), false},
		"value not under prefix":     {match("", equals("a", "y")), match("", prefix("a", "x")), true},
		"prefixes apart":             {match("", prefix("a", "x")), match("", prefix("a", "y")), true},
		"prefix of prefix":           {match("", prefix("a", "x")), match("", prefix("a", "xy")), false},
		"methods apart":              {match("GET"), match("POST"), true},
		"methods overlap":            {match("GET,POST"), match("POST"), false},
		"methods and any":            {match("GET"), match(""), true},
		"narrower in opposite ways":  {match("GET"), match("", equals("a", "1")), false},
		"narrower in both ways":      {match("GET", equals("a", "1")), match(""), true},
		"same methods, more headers": {match("GET", equals("a", "1")), match("GET"), true},
	} {
		if got, back := told(&c.a, &c.b), told(&c.b, &c.a); got != c.want || back != c.want {
			t.Errorf("%s: got %v and %v, want %v", name, got, back, c.want)
		}
	}
}

// Thousands of models of one prefix, told apart by a header, are compared in no
// time, and the one that is there twice is found.
func TestManyModelsOfOnePrefix(t *testing.T) {
	var files []*compiled
	for i := range 5_000 {
		value := strconv.Itoa(i)
		if i == 4_000 {
			value = "7"
		}
		name := fmt.Sprintf("m%04d", i)
		header := routing.Condition{Source: routing.SourceHeader, Name: "x-model", Op: routing.OpEquals, Value: value}
		files = append(files, &compiled{
			file: name + ".yaml", name: name,
			places: map[string]routing.Position{"match": {File: name + ".yaml", Line: 3}},
			model:  &routing.Model{Name: name, Match: routing.Match{Prefix: "/", Headers: []routing.Condition{header}}},
		})
	}
	start := processorTime(t)
	errs := crossCheck(files)
	if took := processorTime(t) - start; took > time.Second {
		t.Errorf("took %v", took)
	}
	if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "m4000.yaml:3: match: claims requests that model m0007 claims in m0007.yaml:3") {
		t.Errorf("got %v", errs)
	}
}

func TestHold(t *testing.T) {
	base := &blob{stamp: stamp{size: 1000}}
	for name, c := range map[string]struct {
		change change
		want   time.Duration
	}{
		"renamed into place":           {change{base: base, replaced: true, settled: true, size: 10, unfinished: true}, 0},
		"renamed, new":                 {change{replaced: true, settled: true}, 0},
		"replaced, who knows how":      {change{base: base, replaced: true, size: 1000}, holdInPlace},
		"written in place":             {change{base: base, settled: true, size: 1000}, holdInPlace},
		"deleted and written":          {change{base: base, replaced: true, written: true, settled: true, size: 1000}, holdInPlace},
		"still open":                   {change{base: base, busy: true, size: 1000}, holdBusy},
		"a little shorter":             {change{base: base, settled: true, size: 990}, holdShorter},
		"much shorter":                 {change{base: base, settled: true, size: 500}, holdPartial},
		"cut in a line":                {change{base: base, settled: true, size: 1000, unfinished: true}, holdPartial},
		"new and written in its place": {change{replaced: true, written: true, settled: true, size: 10}, holdNew},
		"removed":                      {change{base: base, removed: true}, holdRemoved},
	} {
		if got := c.change.hold(); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// A version's definition changes with whatever the file says of it.
func TestDefinition(t *testing.T) {
	const head = "model: m\nlisten: 1.2.3.4:80\nrelease: v\nversions:\n  v: "
	seen := map[string]string{}
	for _, v := range []string{
		`{endpoints: ["1.1.1.1:80"]}`, `{endpoints: ["1.1.1.1:81"]}`, `{endpoints: ["1.1.1.1:80", "1.1.1.2:80"]}`,
		`{dns: "a.b:80"}`, `{dns: "a.c:80"}`, `{dns: "a.b:81"}`, `{dns: "a.b:80", http2: true}`,
		`{dns: "a.b:80", connect_timeout: 1s}`, `{dns: "a.b:80", health_check: {path: /}}`, `{dns: "a.b:80", health_check: {path: /, interval: 6s}}`,
		`{dns: "a.b:80", outlier_detection: {}}`, `{dns: "a.b:80", outlier_detection: {max_ejection: 51%}}`,
		`{dns: "a.b:80", tls: {}}`, `{dns: "a.b:80", tls: {sni: c}}`, `{dns: "a.b:80", tls: {insecure: true}}`,
		`{dns: "a.b:80", tls: {ca: cert}}`, `{dns: "a.b:80", tls: {ca: cert2}}`, `{dns: "a.b:80", tls: {cert: cert, key: key}}`,
	} {
		c := compile("m.yaml", []byte(head+v+"\n"), anyFile{})
		if c.model == nil {
			t.Fatalf("%s: %v", v, c.errs)
		}
		d := c.model.Versions[0].Definition
		if other, ok := seen[d]; ok || len(d) != 32 {
			t.Errorf("%s: definition %q is that of %s", v, d, other)
		}
		seen[d] = v
		again := compile("m.yaml", []byte(head+v+"\ntimeout: 3s\n"), anyFile{})
		if got := again.model.Versions[0].Definition; got != d {
			t.Errorf("%s: definition %q became %q with an edit elsewhere", v, d, got)
		}
	}
	// A field that is added to the version must be added to the definition, and
	// here.
	if got := reflect.TypeFor[version]().NumField() + reflect.TypeFor[clientTLS]().NumField(); got != 8+5 {
		t.Errorf("version and its TLS have %d fields, this test knows 13", got)
	}
}

func TestExpiringCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := newCertificate(time.Now().Add(48 * time.Hour))
	writeFile(t, filepath.Join(dir, "cert.pem"), cert)
	writeFile(t, filepath.Join(dir, "key.pem"), key)
	for _, name := range []string{"a", "b"} {
		writeFile(t, filepath.Join(dir, name+".yaml"), []byte("model: "+name+`
listen: {address: 1.2.3.4:443, tls: {cert: cert.pem, key: key.pem}}
match: {prefix: /`+name+`}
release: v1.0
versions:
  v1.0: {dns: "a.b:80"}
  v2.0:
    dns: "a.b:80"
    tls: {ca: cert.pem}
`))
	}
	config, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(cert)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	end := parsed.NotAfter.UTC().Format(time.RFC3339)
	for in, verb := range map[time.Duration]string{0: "expires", 72 * time.Hour: "expired", -30 * 24 * time.Hour: ""} {
		var got []string
		for _, w := range Warnings(config, time.Now().Add(in)) {
			got = append(got, w.String())
		}
		var want []string
		if verb != "" {
			want = []string{
				"a.yaml:2: listen.tls: model a: certificate " + verb + " at " + end,
				"a.yaml:9: versions.v2.0.tls: model a: authorities " + verb + " at " + end,
				"b.yaml:9: versions.v2.0.tls: model b: authorities " + verb + " at " + end,
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in %v: (-want +got)\n%s", in, diff)
		}
	}
}

// A gate that compares is not measured while the candidate has everybody, and
// that is told where it lasts.
func TestUnmeasuredGates(t *testing.T) {
	const head = `model: m
listen: 1.2.3.4:80
repeatable: true
release: v
versions: {v: {dns: "a.b:80"}}
rollout:
  steps:
    - {traffic: 10%, for: 1h}
    - {traffic: 100%`
	const gates = `}
  gates:
    - {metric: error_rate, max: 1%}
    - {metric: error_rate, max_increase: 0.5pp}
    - {metric: latency_p99, max_increase: 10%}
`
	for last, want := range map[string][]Warning{
		"": nil, ", for: 1h, control: mirror": nil, ", for: 1h, control: 1%": nil,
		", for: 1h": {{File: "m.yaml", Line: 9, Path: "rollout.steps[1]", Message: "model m: this step cannot measure error_rate max_increase and latency_p99 max_increase: " +
			"at traffic: 100% nobody is left to compare with; control: mirror or control: 1% changes that"}},
	} {
		c := compile("m.yaml", []byte(head+last+gates), anyFile{})
		if c.model == nil {
			t.Fatal(c.errs)
		}
		got := Warnings(&routing.Config{Models: []*routing.Model{c.model}}, time.Now())
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", last, diff)
		}
	}
}

// Files that the process may not read are mistakes of theirs.
func TestPermissions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "churn.yaml")
	writeFile(t, file, []byte(modelText("churn", 1)))
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // nobody must be able to pass
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{file: "churn.yaml: permission denied", dir: "cannot read the directory: permission denied"} {
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() {
			// Root may read everything: look as nobody, on a thread that ends
			// with this goroutine.
			runtime.LockOSThread()
			if os.Geteuid() == 0 {
				if _, err := unix.SetfsuidRetUid(65534); err != nil {
					got <- err
					return
				}
			}
			_, err := Load(dir)
			got <- err
		}()
		if err := <-got; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if err := os.Chmod(path, 0o755); err != nil { //nolint:gosec // as it was
			t.Fatal(err)
		}
	}
}

// Envoy takes the expressions that are accepted here, and their programs are
// no larger than estimated.
func TestRegexesInEnvoy(t *testing.T) {
	accepted := []string{
		"a", ".+foo.*", `\w+`, "(foo|bar|baz)+", "(ab?c){5}", `\bv1\..*`, "(?i)[k-s]+", "(?s).+", "[^a-f]{2,9}", "^v[0-9]+$",
	}
	for _, expression := range accepted {
		if err := new(regex).set(expression); err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		said := envoyOnRegex(t, expression)
		m := regexp.MustCompile(`program size of (\d+)`).FindStringSubmatch(said)
		if m == nil {
			t.Errorf("%s: Envoy says: %s", expression, said)
			continue
		}
		if size, _ := strconv.Atoi(m[1]); size > programSize(expression) {
			t.Errorf("%s: the program has size %d in Envoy, estimated was %d", expression, size, programSize(expression))
		}
	}
	for _, expression := range []string{`\x{100}+`, "(?=a)", "("} {
		if new(regex).set(expression) == nil {
			t.Errorf("%s: was accepted", expression)
		}
		if said := envoyOnRegex(t, expression); strings.Contains(said, "program size") {
			t.Errorf("%s: Envoy takes it", expression)
		}
	}
}

// envoyOnRegex has Envoy check a configuration with an expression, under a
// limit that no program keeps, and returns its words.
func envoyOnRegex(t *testing.T, expression string) string {
	t.Helper()
	quoted, err := json.Marshal(expression)
	if err != nil {
		t.Fatal(err)
	}
	bootstrap := `{"layered_runtime": {"layers": [{"name": "limit", "static_layer": {"re2.max_program_size.error_level": 0}}]},
"static_resources": {"listeners": [{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
"filter_chains": [{"filters": [{"name": "h", "typed_config": {
"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "h",
"route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"safe_regex": {"regex": ` + string(quoted) + `}}, "direct_response": {"status": 200}}]}]},
"http_filters": [{"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]}}`
	out, err := exec.CommandContext(t.Context(), envoytest.Binary(t), "--mode", "validate", "--use-dynamic-base-id", "-l", "critical", "--config-yaml", bootstrap).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}
