package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// layMany writes the files of n models on one listener.
func layMany(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	for i := range n {
		writeFile(b, filepath.Join(dir, fmt.Sprintf("m%05d.yaml", i)), []byte(modelText(fmt.Sprintf("m%05d", i), 1)))
	}
	return dir
}

var sizes = []int{1, 1_000, 10_000}

func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := layMany(b, n)
			for b.Loop() {
				if _, err := Load(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReload is a second look at all files, of which none changed.
func BenchmarkReload(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := NewLoader(layMany(b, n))
			if _, err := l.Load(); err != nil {
				b.Fatal(err)
			}
			time.Sleep(2 * clockTick) // until no file is young
			if _, err := l.Load(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := l.Load(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEdit is from the save of one file to the update, by rename and in
// place.
func BenchmarkEdit(b *testing.B) {
	for _, n := range sizes {
		for _, way := range []string{"rename", "in place"} {
			b.Run(fmt.Sprintf("%d/%s", n, way), func(b *testing.B) {
				dir := layMany(b, n)
				updates := Watch(b.Context(), dir, Options{})
				<-updates
				time.Sleep(2 * clockTick)
				file := filepath.Join(dir, "m00000.yaml")
				var took []time.Duration
				for i := 0; b.Loop(); i++ {
					content := modelText("m00000", 10+i%80)
					start := time.Now()
					if way == "rename" {
						replace(b, file, content)
					} else {
						writeFile(b, file, []byte(content))
					}
					if u := <-updates; u.Err != nil {
						b.Fatal(u.Err)
					}
					took = append(took, time.Since(start))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)*9/10].Microseconds())/1000, "p90-ms")
			})
		}
	}
}
