package config

// Contents are the files that a configuration was made of, by their names
// relative to the directory; those that a model names with an absolute path
// are there under that.
type Contents struct {
	Files map[string][]byte // must not be changed
}

// contents is what build has just read.
func (l *Loader) contents() *Contents {
	files := make(map[string][]byte, len(l.models)+len(l.others))
	for name, m := range l.models {
		files[name] = m.blob.data
	}
	for name, b := range l.others {
		files[name] = b.data
	}
	return &Contents{files}
}
