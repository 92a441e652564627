package protocol

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/headgate/headgate/routing"
)

// tensors tells whether at i is the list of outputs of an Open Inference
// answer: objects with a name and a datatype.
func tensors(doc *document, i int) bool {
	first := doc.element(i, 0)
	return doc.isKind(doc.member(first, "name"), kindString) && doc.isKind(doc.member(first, "datatype"), kindString)
}

// binaryTensors tells whether an output is said to follow behind the JSON.
func binaryTensors(doc *document) bool {
	outputs := doc.member(0, "outputs")
	if !doc.isKind(outputs, kindArray) {
		return false
	}
	for o := range doc.kids(outputs) {
		if doc.member(doc.member(o, "parameters"), "binary_data_size") >= 0 {
			return true
		}
	}
	return false
}

// readOpenInference reads the outputs by name: their order means nothing. Data
// is in JSON, flat or nested, or in rest by the binary tensor data extension
// (row-major, little-endian, in the order of the outputs); the form that gRPC
// gateways write, with contents, is read too. Parameters and datatypes of one
// kind (FP32 and FP64) are not compared.
func (p *Prediction) readOpenInference(doc *document, rest []byte, limits Limits) error {
	outputs := doc.member(0, "outputs")
	if !doc.isKind(outputs, kindArray) {
		return unreadable(ReasonProtocol, "no list of outputs in the answer")
	}
	for i := range doc.kids(outputs) {
		name, datatype := doc.string(doc.member(i, "name")), doc.string(doc.member(i, "datatype"))
		if name == "" {
			return unreadable(ReasonProtocol, "an output has no name")
		}
		o := output{path: routing.Path{{Name: "outputs"}, {Name: name}}, doc: doc, shape: dims(doc, doc.member(i, "shape"))}
		var err error
		if size := doc.member(doc.member(i, "parameters"), "binary_data_size"); size >= 0 {
			n, _ := doc.number(size)
			if n < 0 || n > float64(len(rest)) {
				return unreadable(ReasonTruncated, "output %.50q: %v bytes are announced and %d there", name, n, len(rest))
			}
			if o.doc, err = decodeTensor(datatype, rest[:int(n)], limits); err != nil {
				return err
			}
			rest = rest[int(n):]
		} else if o.node = tensorData(doc, i, datatype); o.node < 0 {
			return unreadable(ReasonProtocol, "output %.50q has no data", name)
		}
		if t, ok := o.doc.tensor(o.node, nil); ok && o.shape != nil && product(o.shape) != t.size {
			o.fault = "shape " + shapeText(o.shape) + " with " + strconv.Itoa(t.size) + " elements"
		}
		p.add(o)
	}
	if len(rest) > 0 {
		return unreadable(ReasonMalformed, "%d bytes stand behind the last output", len(rest))
	}
	return nil
}

// dims reads a shape; protobuf's JSON writes its numbers as strings.
func dims(doc *document, i int) []int {
	if !doc.isKind(i, kindArray) {
		return nil
	}
	shape := make([]int, 0, doc.nodes[i].kids)
	for j := range doc.kids(i) {
		n, ok := doc.number(j)
		if !ok {
			parsed, err := strconv.Atoi(doc.string(j))
			if err != nil {
				return nil
			}
			n = float64(parsed)
		}
		if n < 0 || n > maxBytes || n != math.Trunc(n) {
			return nil
		}
		shape = append(shape, int(n))
	}
	return shape
}

// tensorData returns where an output's data is, -1 when there is none. Numbers
// that JSON or protobuf's JSON has to write as strings become numbers.
func tensorData(doc *document, i int, datatype string) int {
	data := doc.member(i, "data")
	if contents := doc.member(i, "contents"); data < 0 && doc.isKind(contents, kindObject) && doc.nodes[contents].kids == 1 {
		data = contents + 2 // behind the name of its one member
	}
	if !doc.isKind(data, kindArray) {
		return -1
	}
	if datatype == "BYTES" || datatype == "BOOL" {
		return data
	}
	for j := data + 1; j < int(doc.nodes[data].next); j++ {
		n := &doc.nodes[j]
		if n.kind != kindString || n.end-n.start > 40 {
			continue
		}
		if f, err := strconv.ParseFloat(doc.text(j), 64); err == nil {
			n.kind, n.num = kindNumber, f
			n.integer = datatype[:min(2, len(datatype))] != "FP"
		}
	}
	return data
}

// widths are the sizes of an element, in bytes.
var widths = map[string]int{
	"BOOL": 1, "UINT8": 1, "INT8": 1,
	"UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2,
	"UINT32": 4, "INT32": 4, "FP32": 4,
	"UINT64": 8, "INT64": 8, "FP64": 8,
}

// decodeTensor reads a binary tensor into a document of one flat array.
func decodeTensor(datatype string, data []byte, limits Limits) (*document, error) {
	doc := &document{nodes: []node{{kind: kindArray}}}
	if datatype == "BYTES" {
		doc.src = data
		if err := doc.appendBytes(limits); err != nil {
			return nil, err
		}
	} else {
		width := widths[datatype]
		if width == 0 {
			return nil, unreadable(ReasonProtocol, "unknown datatype %.20q", datatype)
		}
		if len(data)%width != 0 {
			return nil, unreadable(ReasonMalformed, "%d bytes of %s", len(data), datatype)
		}
		if len(data)/width >= limits.Values {
			return nil, unreadable(ReasonTooLarge, "more than %d values", limits.Values)
		}
		doc.nodes = append(make([]node, 0, len(data)/width+1), doc.nodes...)
		for ; len(data) > 0; data = data[width:] {
			doc.appendElement(datatype, data)
		}
	}
	doc.nodes[0].kids, doc.nodes[0].next = uint32(len(doc.nodes)-1), uint32(len(doc.nodes))
	return doc, nil
}

// appendBytes reads elements of type BYTES: a length of four bytes, then so
// many bytes.
func (d *document) appendBytes(limits Limits) error {
	for pos := 0; pos < len(d.src); {
		if len(d.src)-pos < 4 {
			return unreadable(ReasonMalformed, "the length of an element of BYTES is cut")
		}
		n := int(binary.LittleEndian.Uint32(d.src[pos:]))
		pos += 4
		if n > len(d.src)-pos {
			return unreadable(ReasonMalformed, "an element of BYTES is cut")
		}
		if len(d.nodes) >= limits.Values {
			return unreadable(ReasonTooLarge, "more than %d values", limits.Values)
		}
		d.nodes = append(d.nodes, node{
			kind: kindString, start: uint32(pos), end: uint32(pos + n), next: uint32(len(d.nodes)) + 1,
		})
		pos += n
	}
	return nil
}

func (d *document) appendElement(datatype string, b []byte) {
	n := node{kind: kindNumber, next: uint32(len(d.nodes)) + 1}
	le := binary.LittleEndian
	integer := true
	switch datatype {
	case "BOOL":
		n.kind = kindBool
		if b[0] != 0 {
			n.num = 1
		}
	case "UINT8":
		n.num = float64(b[0])
	case "INT8":
		n.num = float64(int8(b[0]))
	case "UINT16":
		n.num = float64(le.Uint16(b))
	case "INT16":
		n.num = float64(int16(le.Uint16(b)))
	case "UINT32":
		n.num = float64(le.Uint32(b))
	case "INT32":
		n.num = float64(int32(le.Uint32(b)))
	case "UINT64":
		d.appendInteger(&n, strconv.FormatUint(le.Uint64(b), 10))
	case "INT64":
		d.appendInteger(&n, strconv.FormatInt(int64(le.Uint64(b)), 10))
	default:
		integer = false
		n.num = decodeFloat(datatype, b)
	}
	n.integer = integer
	d.nodes = append(d.nodes, n)
}

// appendInteger gives a number its text, which says it exactly beyond 2^53.
func (d *document) appendInteger(n *node, text string) {
	n.num, _ = strconv.ParseFloat(text, 64)
	n.start = uint32(len(d.src))
	d.src = append(d.src, text...)
	n.end = uint32(len(d.src))
}

func decodeFloat(datatype string, b []byte) float64 {
	le := binary.LittleEndian
	switch datatype {
	case "FP64":
		return math.Float64frombits(le.Uint64(b))
	case "FP32":
		return float64(math.Float32frombits(le.Uint32(b)))
	case "BF16": // the upper half of an FP32
		return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16))
	default:
		return half(le.Uint16(b))
	}
}

// half reads an IEEE 754 binary16: a sign, 5 bits of exponent, 10 of fraction.
func half(bits uint16) float64 {
	exponent, fraction := int(bits>>10&0x1f), float64(bits&0x3ff)
	var f float64
	switch {
	case exponent == 0x1f && fraction != 0:
		return math.NaN()
	case exponent == 0x1f:
		f = math.Inf(1)
	case exponent == 0:
		f = math.Ldexp(fraction, -24)
	default:
		f = math.Ldexp(1024+fraction, exponent-25)
	}
	if bits>>15 == 1 {
		f = -f
	}
	return f
}

func shapeText(shape []int) string {
	b := []byte{'['}
	for i, n := range shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(append(b, ']'))
}
