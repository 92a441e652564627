package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds on a file. A file of a thousand endpoints uses 10 % of them; a file
// made to exhaust memory is refused before a YAML parser sees it.
const (
	maxFileSize = 256 << 10 // of a model
	maxNamed    = 1 << 20   // of a file that a model names
	maxMarks    = 20_000    // characters that can begin a YAML node
	maxDepth    = 16
	maxErrors   = 20 // told of one file
	maxPlain    = 3  // told of one file, of what makes it more than plain YAML
)

// document returns the single YAML document in data, in which every node is a
// plain mapping, sequence or scalar. It returns no node with errors that make
// the rest unreadable.
func document(data []byte) (*yaml.Node, []Error) {
	if e := scanText(data); e != nil {
		return nil, []Error{*e}
	}
	root, err := parseYAML(data)
	if err != nil {
		return nil, []Error{*err}
	}
	if root == nil || root.Kind == yaml.ScalarNode && root.Tag == "!!null" && root.Value == "" {
		return nil, []Error{{Message: "is empty"}}
	}
	var errs []Error
	checkNodes(root, 1, &errs)
	if len(errs) > 0 {
		return nil, errs
	}
	return root, nil
}

// scanText looks for what a YAML parser would report badly, or choke on.
func scanText(data []byte) *Error {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return &Error{Line: 1, Message: "begins with a byte order mark; save it as UTF-8 without one"}
	case bytes.HasPrefix(data, []byte("\xfe\xff")), bytes.HasPrefix(data, []byte("\xff\xfe")):
		return &Error{Line: 1, Message: "is UTF-16; save it as UTF-8"}
	}
	line, marks, indent := 1, 0, true
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if msg := badRune(r, size, indent); msg != "" {
			return &Error{Line: line, Message: msg}
		}
		if beginsNode(data, i) {
			marks++
		}
		if r == '\n' {
			line++
		}
		indent = r == '\n' || indent && r == ' '
		i += size
	}
	if marks > maxMarks {
		return &Error{Message: fmt.Sprintf("has too many values: more than %d", maxMarks)}
	}
	return nil
}

func badRune(r rune, size int, indent bool) string {
	switch {
	case r == utf8.RuneError && size == 1:
		return "is not UTF-8"
	case r == '\t' && indent:
		return "is indented with a tab; use spaces"
	case r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f, r >= 0x80 && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff:
		return fmt.Sprintf("contains the control character %U", r)
	}
	return ""
}

// beginsNode overestimates: every node of a document but the first comes after
// one of these characters, at most two of them after each.
func beginsNode(data []byte, i int) bool {
	switch data[i] {
	case ':', ',', '[', '{':
		return true
	case '-', '?':
		return i+1 == len(data) || data[i+1] <= ' '
	}
	return false
}

// parseYAML parses the text. A panic in the parser is an error of the file: it
// must not take down what moves traffic.
func parseYAML(data []byte) (root *yaml.Node, failed *Error) {
	defer func() {
		if recover() != nil {
			root, failed = nil, &Error{Message: "cannot be read as YAML"}
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntaxError(data, err)
	}
	if err := decoder.Decode(&next); err == nil {
		return nil, &Error{Line: next.Line, Message: "begins a second document; write one model in each file"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(data, err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, nil
	}
	return doc.Content[0], nil
}

var (
	yamlMessage   = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxError finds the line of a parser's error. Errors of its scanner count
// lines from 1, those of its grammar from 0.
func syntaxError(data []byte, err error) *Error {
	m := yamlMessage.FindStringSubmatch(strings.SplitN(err.Error(), "\n", 2)[0])
	if m == nil {
		return &Error{Message: "cannot be read as YAML"}
	}
	if a := unknownAnchor.FindStringSubmatch(m[2]); a != nil {
		before, _, _ := bytes.Cut(data, []byte("*"+a[1]))
		return &Error{Line: 1 + bytes.Count(before, []byte("\n")), Value: shown("*" + a[1]), Message: aliasRule}
	}
	line := 1
	if n, err := strconv.Atoi(m[1]); err == nil {
		line = n
		if strings.HasPrefix(m[2], "did not find expected") {
			line++
		}
	}
	return &Error{Line: line, Message: "is not YAML: " + m[2]}
}

const aliasRule = "anchors and aliases are not allowed; write the value again"

// checkNodes refuses the parts of YAML that let a small file mean a large one,
// or one text mean two things.
func checkNodes(n *yaml.Node, depth int, errs *[]Error) {
	fail := func(value, message string) {
		*errs = append(*errs, Error{Line: n.Line, Column: n.Column, Value: value, Message: message})
	}
	switch {
	case len(*errs) >= maxPlain:
		return
	case depth > maxDepth:
		fail("", fmt.Sprintf("is nested more than %d levels deep", maxDepth))
		return
	case n.Kind == yaml.AliasNode:
		fail(shown("*"+n.Value), aliasRule)
		return
	case n.Anchor != "":
		fail(shown("&"+n.Anchor), aliasRule)
	case n.Tag == "!!merge":
		fail("<<", "merge keys are not allowed; write the values again")
	case n.Style&yaml.TaggedStyle != 0:
		fail(shown(n.Tag), "tags are not allowed")
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind != yaml.ScalarNode && child.Kind != yaml.AliasNode {
			*errs = append(*errs, Error{Line: child.Line, Column: child.Column, Message: "a field's name must be text"})
			continue
		}
		checkNodes(child, depth+1, errs)
	}
}
