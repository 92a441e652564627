package config

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("model.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("model.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What a schema cannot express is said in the file, by a comment.
var beyond = regexp.MustCompile(`(?m)^# beyond the schema: (.+)$`)

// The parser and the schema agree on every file of testdata.
func TestSchemaAgreesWithParser(t *testing.T) {
	s := compiledSchema(t)
	for _, dir := range []string{"testdata/good", "testdata/broken"} {
		for _, c := range casesIn(t, dir) {
			for name, data := range c.files {
				if !isModel(name) {
					continue
				}
				t.Run(c.name+"/"+name, func(t *testing.T) {
					value, err := jsonOf(data)
					if err == nil {
						err = s.Validate(value)
					}
					parsed := compile(name, data, anyFile{})
					unsaid := beyond.Match(bytes.ReplaceAll(data, []byte{0}, nil)) // UTF-16 as well
					switch {
					case len(parsed.errs) == 0 && err != nil:
						t.Errorf("the parser accepts what the schema refuses: %v", err)
					case len(parsed.errs) == 0 && unsaid:
						t.Error("says that it is beyond the schema, but the parser accepts it")
					case len(parsed.errs) > 0 && err == nil && !unsaid:
						t.Errorf("the schema accepts what the parser refuses: %v", parsed.errs)
					case len(parsed.errs) > 0 && err != nil && unsaid:
						t.Errorf("says that it is beyond the schema, which refuses it: %v", err)
					}
				})
			}
		}
	}
}

// anyFile has every file that a model can name.
type anyFile struct{}

func (anyFile) read(name string) ([]byte, error) {
	cert, key := certificate()
	switch {
	case strings.Contains(name, "cert"):
		return cert, nil
	case strings.Contains(name, "key"):
		return key, nil
	}
	return nil, os.ErrNotExist
}

// jsonOf reads YAML as an editor does that knows its core schema.
func jsonOf(data []byte) (any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return jsonValue(doc.Content[0]), nil
}

func jsonValue(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			if merged, ok := jsonValue(n.Content[i+1]).(map[string]any); ok && n.Content[i].Tag == "!!merge" {
				for k, v := range merged {
					out[k] = v
				}
				continue
			}
			out[n.Content[i].Value] = jsonValue(n.Content[i+1])
		}
		return out
	case yaml.SequenceNode:
		out := []any{}
		for _, item := range n.Content {
			out = append(out, jsonValue(item))
		}
		return out
	case yaml.AliasNode:
		return n.Alias.Value
	}
	return jsonScalar(n)
}

func jsonScalar(n *yaml.Node) any {
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return json.Number(strconv.FormatInt(i, 10))
		}
	case "!!float":
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
		}
	}
	return n.Value
}

// The schema beside the code is the one that is published.
func TestSchemaFile(t *testing.T) {
	const file = "schema.json"
	if *update {
		writeFile(t, file, Schema())
	}
	if diff := cmp.Diff(string(readFile(t, file)), string(Schema())); diff != "" {
		t.Errorf("%s is not what Schema returns, run with -update: (-want +got)\n%s", file, diff)
	}
}

// Every field is described for editors, and in the reference for people.
func TestFieldsAreDescribed(t *testing.T) {
	reference := string(readFile(t, "README.md"))
	var doc map[string]any
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, s map[string]any)
	walk = func(path string, s map[string]any) {
		if properties, ok := s["properties"].(map[string]any); ok {
			for name, p := range properties {
				field := p.(map[string]any)
				if field["description"] == "" {
					t.Errorf("%s.%s: has no description", path, name)
				}
				if !strings.Contains(reference, "`"+name+"`") {
					t.Errorf("%s.%s: is not in README.md", path, name)
				}
				if fallback, ok := field["default"].(string); ok && !strings.Contains(reference, "`"+fallback+"`") {
					t.Errorf("%s.%s: README.md does not name its default %s", path, name, fallback)
				}
				walk(path+"."+name, field)
			}
		}
		for _, under := range []string{"items", "additionalProperties"} {
			if inner, ok := s[under].(map[string]any); ok {
				walk(path+"."+under, inner)
			}
		}
		if choices, ok := s["oneOf"].([]any); ok {
			for _, choice := range choices {
				walk(path, choice.(map[string]any))
			}
		}
	}
	walk("", doc)
}

// Every whole model in the reference is one.
func TestExamplesInReference(t *testing.T) {
	found := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(model: .*?)```").FindAllSubmatch(readFile(t, "README.md"), -1) {
		found++
		if c := compile("README.md", block[1], anyFile{}); c.model == nil {
			t.Errorf("%v\n%s", c.errs, block[1])
		}
	}
	if found < 2 {
		t.Errorf("found %d models, there were 2", found)
	}
}
