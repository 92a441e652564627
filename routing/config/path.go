package config

import (
	"strconv"

	"go.yaml.in/yaml/v3"
)

// path is a place in a document, as a list from the end to the beginning.
// The nil path is the document.
type path struct {
	up    *path
	key   string
	index int // of an item in a list; -1: key is meant
}

func (p *path) in(key string) *path { return &path{up: p, key: key, index: -1} }

func (p *path) at(index int) *path { return &path{up: p, index: index} }

func (p *path) String() string {
	if p == nil {
		return ""
	}
	if p.index >= 0 {
		return p.up.String() + "[" + strconv.Itoa(p.index) + "]"
	}
	if p.up == nil {
		return shown(p.key)
	}
	return p.up.String() + "." + shown(p.key)
}

// find returns the node at a path, or the nearest one above it.
func find(root *yaml.Node, p *path) *yaml.Node {
	if p == nil {
		return root
	}
	up := find(root, p.up)
	switch {
	case p.index < 0 && up.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(up.Content); i += 2 {
			if up.Content[i].Value == p.key {
				return up.Content[i+1]
			}
		}
	case p.index >= 0 && up.Kind == yaml.SequenceNode && p.index < len(up.Content):
		return up.Content[p.index]
	}
	return up
}
