// render CHART VALUES.json: what `helm template` would print, for the few functions that
// the chart uses. Go's own template engine, as in Helm; the functions do as sprig's do.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

type files map[string][]byte

func (f files) Get(name string) string { return string(f[name]) }
func (f files) Glob(pattern string) files {
	out := files{}
	for name, data := range f {
		if ok, _ := filepath.Match(pattern, name); ok {
			out[name] = data
		}
	}
	return out
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

// Helm's values are float64 where JSON has numbers, and so are they here.
var functions = template.FuncMap{
	"list":     func(v ...any) []any { return v },
	"append":   func(l []any, v any) []any { return append(append([]any{}, l...), v) },
	"concat":   func(a, b []any) []any { return append(append([]any{}, a...), b...) },
	"first":    func(l []any) any { return l[0] },
	"last":     func(l []any) any { return l[len(l)-1] },
	"contains": func(part, s string) bool { return strings.Contains(s, part) },
	"replace":  func(old, new, s string) string { return strings.ReplaceAll(s, old, new) },
	"int":      func(v any) int { return int(v.(float64)) },
	"fail":     func(s string) (string, error) { return "", fmt.Errorf("%s", s) },
	"get":      func(d map[string]any, k string) any { return d[k] },
	"hasKey":   func(d map[string]any, k string) bool { _, ok := d[k]; return ok },
	"dict": func(v ...any) map[string]any {
		d := map[string]any{}
		for i := 0; i+1 < len(v); i += 2 {
			d[v[i].(string)] = v[i+1]
		}
		return d
	},
	"merge": func(to map[string]any, from ...map[string]any) map[string]any { // what is there stays
		for _, f := range from {
			for k, v := range f {
				if _, ok := to[k]; !ok {
					to[k] = v
				}
			}
		}
		return to
	},
	"toJson": func(v any) string { b, _ := json.Marshal(v); return string(b) },
}

func main() {
	chart, all := os.Args[1], files{}
	paths, err := filepath.Glob(filepath.Join(chart, "manifests", "*"))
	must(err)
	for _, p := range paths {
		all["manifests/"+filepath.Base(p)], err = os.ReadFile(p)
		must(err)
	}
	var values map[string]any
	text, err := os.ReadFile(os.Args[2])
	must(err)
	must(json.Unmarshal(text, &values))
	templates, err := filepath.Glob(filepath.Join(chart, "templates", "*.yaml"))
	must(err)
	for _, p := range templates {
		t, err := template.New(filepath.Base(p)).Option("missingkey=error").Funcs(functions).ParseFiles(p)
		must(err)
		must(t.Execute(os.Stdout, map[string]any{"Values": values, "Files": all}))
	}
}
