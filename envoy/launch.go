package envoy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// maxLog bounds Envoy's log file, in bytes. One older file is kept beside it.
const maxLog = 16 << 20

// passedOn are the environment variables that an Envoy gets. Others may hold
// secrets of headgate, and Envoy shows its environment to nobody but root.
var passedOn = []string{"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// launch starts an Envoy in a session of its own, so that neither a signal to
// headgate's process group nor the end of its terminal reaches it. It inherits
// lock as descriptor 3 and keeps it until it ends.
func launch(binary string, args []string, logPath string, lock *os.File) (pid int, err error) {
	if err := rotate(logPath); err != nil {
		return 0, err
	}
	// Appending, so that a file that is cut to size is written on from its
	// beginning.
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer func() { _ = null.Close() }()
	p, err := os.StartProcess(binary, append([]string{binary}, args...), &os.ProcAttr{
		Dir:   "/",
		Env:   environment(),
		Files: []*os.File{null, log, log, lock},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, err
	}
	pid = p.Pid
	return pid, p.Release()
}

func environment() []string {
	env := []string{}
	for _, name := range passedOn {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// rotate makes room in a log file that is half full.
func rotate(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() < maxLog/2 {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Rename(path, path+".1")
}

// boundLog cuts the log of a running Envoy to size, until ctx is done. Envoy
// has the file open, so it is copied and emptied instead of renamed.
func (r *Runner) boundLog(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := cut(r.options.State.file(logFile)); err != nil {
			r.options.Log.Warn("Envoy's log cannot be cut to size", "error", err)
		}
	}
}

func cut(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() < maxLog {
		return nil
	}
	if err != nil {
		return err
	}
	source, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	keep, err := os.OpenFile(path+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = io.Copy(keep, io.LimitReader(source, maxLog))
		err = errors.Join(err, keep.Close())
	}
	// On a full disk the copy fails, and emptying is what helps.
	return errors.Join(err, os.Truncate(path, 0))
}

// lastWords returns the last thing that Envoy logged as critical, without time
// and place, or "". Of a message that shows a whole configuration the last line
// says what is wrong with it.
func lastWords(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > 64<<10 {
		_, _ = f.Seek(-64<<10, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	at := bytes.LastIndex(text, []byte("[critical]"))
	if at < 0 {
		return ""
	}
	message := text[at:]
	if next := bytes.Index(message, []byte("\n[20")); next > 0 { // the time of another message
		message = message[:next]
	}
	lines := strings.Split(strings.TrimSpace(string(message)), "\n")
	last := strings.TrimLeft(lines[len(lines)-1], " :")
	for strings.HasPrefix(last, "[") {
		_, rest, ok := strings.Cut(last, "]")
		if !ok {
			break
		}
		last = strings.TrimSpace(rest)
	}
	return shortened(last)
}

func shortened(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return s[:most] + " …"
}
