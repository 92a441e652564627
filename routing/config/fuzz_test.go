package config

import (
	"testing"
	"time"
)

// FuzzLoad: whatever a file says, it is a model or mistakes with a place, soon.
func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"testdata/good", "testdata/broken"} {
		for _, c := range casesIn(f, dir) {
			for _, data := range c.files {
				f.Add(data)
			}
		}
	}
	for _, text := range hostile {
		f.Add([]byte(text[:min(len(text), 2_000)]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFileSize {
			return
		}
		start := time.Now()
		c := compile("fuzz.yaml", data, anyFile{})
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if (c.model == nil) != (len(c.errs) > 0) {
			t.Errorf("model %v, errors %v: want one of them", c.model, c.errs)
		}
		if len(c.errs) > maxErrors+1 {
			t.Errorf("%d errors", len(c.errs))
		}
		for _, e := range c.errs {
			if e.File != "fuzz.yaml" || e.Message == "" || len(e.Error()) > 20_000 || !printable(e.Value) {
				t.Errorf("error %+v", e)
			}
		}
		crossCheck([]*compiled{c, c})
	})
}
