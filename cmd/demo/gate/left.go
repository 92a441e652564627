package gate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// killLeftEnvoy kills the Envoy of a state folder when it outlived headgate.
// The process id is used only when what runs under it is an Envoy.
func killLeftEnvoy(state string) {
	data, err := os.ReadFile(filepath.Join(state, "envoy.json"))
	if err != nil {
		return
	}
	var record struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(data, &record); err != nil || record.PID <= 1 {
		return
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", record.PID))
	if err == nil && strings.Contains(filepath.Base(exe), "envoy") {
		_ = syscall.Kill(record.PID, syscall.SIGKILL)
	}
}
