package model

import (
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed wdbc.csv
var wdbc string

// The diagnoses, as the last column spells them.
const (
	Malignant = "malignant"
	Benign    = "benign"
)

// Row is one breast mass.
type Row struct {
	Values    []float64 // in the order of Data.Features
	Malignant bool
}

// Label returns the diagnosis in words.
func (r Row) Label() string { return label(r.Malignant) }

func label(malignant bool) string {
	if malignant {
		return Malignant
	}
	return Benign
}

// Data is the data set, divided into the rows that models are fitted to and
// those that they never see. It is shared and must not be changed.
type Data struct {
	Features []string // names of the columns
	Train    []Row
	HeldOut  []Row
}

// Load returns the data set that lies beside the code. Of each five rows the
// last two are held out: 342 to fit to, 227 to be judged by.
var Load = sync.OnceValues(func() (*Data, error) {
	d, err := parse(strings.NewReader(wdbc))
	if err != nil {
		return nil, fmt.Errorf("wdbc.csv: %w", err)
	}
	return d, nil
})

// Index returns the column of a feature, or -1.
func (d *Data) Index(feature string) int { return slices.Index(d.Features, feature) }

func parse(r io.Reader) (*Data, error) {
	lines, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(lines) < 2 || len(lines[0]) < 2 {
		return nil, errors.New("no rows")
	}
	last := len(lines[0]) - 1
	d := &Data{Features: lines[0][:last]}
	for i, fields := range lines[1:] {
		row, err := parseRow(fields[:last], fields[last])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		if i%5 > 2 {
			d.HeldOut = append(d.HeldOut, row)
		} else {
			d.Train = append(d.Train, row)
		}
	}
	return d, nil
}

func parseRow(fields []string, diagnosis string) (Row, error) {
	row := Row{Values: make([]float64, len(fields)), Malignant: diagnosis == Malignant}
	if !row.Malignant && diagnosis != Benign {
		return Row{}, fmt.Errorf("diagnosis: %q: must be %s or %s", diagnosis, Malignant, Benign)
	}
	for i, f := range fields {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return Row{}, err
		}
		row.Values[i] = v
	}
	return row, nil
}
