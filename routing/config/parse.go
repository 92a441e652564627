package config

import (
	"path/filepath"

	"github.com/headgate/headgate/routing"
)

// Parse compiles one model's file by itself: what it shares with other files is
// not checked. The files that it names are read relative to its own folder. The
// error is of type [Errors], with name as the file.
func Parse(name string, data []byte) (*routing.Model, error) {
	dir, err := openDirectory(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.close()
	out := compile(name, data, &sharedFiles{dir: dir, known: map[string]*blob{}})
	if len(out.errs) > 0 {
		errs := Errors(out.errs)
		errs.sort()
		return nil, errs
	}
	return out.model, nil
}
