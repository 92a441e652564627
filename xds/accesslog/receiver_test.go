package accesslog

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	logv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"

	"github.com/headgate/headgate/compare"
)

// book keeps what a sink is told.
type book struct {
	mu   sync.Mutex
	seen []compare.Observation
	gaps []gap
}

type gap struct {
	node     string
	from, to time.Duration // since the receiver began; -1: none
}

func (b *book) Observe(o compare.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, o)
}

func (b *book) Gap(node string, from, to time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gaps = append(b.gaps, gap{node, time.Duration(from.UnixNano()), time.Duration(to.UnixNano())})
}

func (b *book) all() []compare.Observation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]compare.Observation(nil), b.seen...)
}

func (b *book) gapsSince(t time.Time) []gap {
	b.mu.Lock()
	defer b.mu.Unlock()
	var gaps []gap
	for _, g := range b.gaps {
		g.from -= time.Duration(t.UnixNano())
		if g.to == time.Duration(time.Time{}.UnixNano()) {
			g.to = -1
		} else {
			g.to -= time.Duration(t.UnixNano())
		}
		gaps = append(gaps, g)
	}
	return gaps
}

// wire is a stream without a network.
type wire struct {
	grpc.ServerStream
	in  chan *logv3.StreamAccessLogsMessage
	err error // how it ends, once in is closed
	end sync.Once
}

func newWire() *wire { return &wire{in: make(chan *logv3.StreamAccessLogsMessage, 10), err: io.EOF} }

func (w *wire) Context() context.Context                           { return context.Background() }
func (w *wire) SendAndClose(*logv3.StreamAccessLogsResponse) error { return nil }
func (w *wire) Recv() (*logv3.StreamAccessLogsMessage, error) {
	if m, ok := <-w.in; ok {
		return m, nil
	}
	return nil, w.err
}

func (w *wire) send(node string, entries ...*accesslogv3.HTTPAccessLogEntry) {
	m := &logv3.StreamAccessLogsMessage{LogEntries: &logv3.StreamAccessLogsMessage_HttpLogs{
		HttpLogs: &logv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: entries},
	}}
	if node != "" {
		m.Identifier = &logv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: node}}
	}
	w.in <- m
}

func (w *wire) breakOff() {
	w.err = errors.New("connection reset")
	w.finish()
}

func (w *wire) finish() { w.end.Do(func() { close(w.in) }) }

func TestReceiverCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &book{}
		r := New(Options{Sink: b, Hasher: NewHasher(nil)})
		w := newWire()
		go func() { _ = r.StreamAccessLogs(w) }()
		late := entry()
		late.CommonProperties.StartTime = nil
		w.send("one", entry(), late)
		w.send("", entry())
		synctest.Wait()
		if diff := cmp.Diff([]compare.Observation{seen(), seen()}, b.all()); diff != "" {
			t.Errorf("observed (-want +got):\n%s", diff)
		}
		m := r.Metrics()
		if m.Entries != 2 || m.Dropped["no_time"] != 1 || m.Streams != 1 {
			t.Errorf("metrics %+v", m)
		}
		w.finish()
		synctest.Wait()
		if m = r.Metrics(); m.Streams != 0 || m.StreamsOpened != 1 {
			t.Errorf("metrics at the end %+v", m)
		}
	})
}

func TestGaps(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name string
		play func(r *Receiver, open func() *wire)
		want []gap
	}{
		{"none when Envoy closes the stream", func(_ *Receiver, open func() *wire) {
			w := open()
			w.finish()
			synctest.Wait()
			time.Sleep(3 * s)
			open()
		}, nil},
		{"from the last message to the next stream", func(_ *Receiver, open func() *wire) {
			w := open()
			time.Sleep(2 * s)
			w.breakOff()
			synctest.Wait()
			time.Sleep(3 * s)
			open()
			time.Sleep(time.Hour)
		}, []gap{{"one", 100 * s, -1}, {"one", 100 * s, 105 * s}}},
		{"one for all streams of a node", func(_ *Receiver, open func() *wire) {
			w1, w2 := open(), open()
			w1.breakOff()
			w2.breakOff()
			synctest.Wait()
			time.Sleep(3 * s)
			open()
			open()
		}, []gap{{"one", 100 * s, -1}, {"one", 100 * s, 103 * s}}},
		{"ends when the node does not come back, and is told again when it does", func(_ *Receiver, open func() *wire) {
			open().breakOff()
			synctest.Wait()
			time.Sleep(20 * s)
			open()
		}, []gap{{"one", 100 * s, -1}, {"one", 100 * s, 110 * s}, {"one", 100 * s, 120 * s}}},
		{"an idle stream loses a minute at most", func(_ *Receiver, open func() *wire) {
			w := open()
			time.Sleep(time.Hour)
			w.breakOff()
			synctest.Wait()
		}, []gap{{"one", 100*s + 59*time.Minute, -1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, origin := &book{}, time.Now()
				r := New(Options{Sink: b, Hasher: NewHasher(nil)})
				time.Sleep(100 * s)
				var wires []*wire
				tt.play(r, func() *wire {
					w := newWire()
					wires = append(wires, w)
					go func() { _ = r.StreamAccessLogs(w) }()
					w.send("one")
					synctest.Wait()
					return w
				})
				if diff := cmp.Diff(tt.want, b.gapsSince(origin), cmp.AllowUnexported(gap{})); diff != "" {
					t.Errorf("gaps (-want +got):\n%s", diff)
				}
				for _, w := range wires {
					w.finish()
				}
			})
		})
	}
}

// A node that is heard of soon after the start may have served before.
func TestGapAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, origin := &book{}, time.Now()
		r := New(Options{Sink: b, Hasher: NewHasher(nil)})
		time.Sleep(3 * time.Second)
		w := newWire()
		go func() { _ = r.StreamAccessLogs(w) }()
		w.send("one")
		w.finish()
		synctest.Wait()
		if diff := cmp.Diff([]gap{{"one", 0, 3 * time.Second}}, b.gapsSince(origin), cmp.AllowUnexported(gap{})); diff != "" {
			t.Errorf("gaps (-want +got):\n%s", diff)
		}
	})
}

func TestIdentityIsChecked(t *testing.T) {
	b := &book{}
	r := New(Options{Sink: b, Hasher: NewHasher(nil), NodeIDFromPeer: func(_ context.Context, id string) error {
		if id != "one" {
			return errors.New("not you")
		}
		return nil
	}})
	for node, want := range map[string]codes.Code{"one": codes.OK, "two": codes.PermissionDenied, "": codes.InvalidArgument} {
		w := newWire()
		w.send(node, entry())
		w.finish()
		if got := status.Code(r.StreamAccessLogs(w)); got != want {
			t.Errorf("node %q: %s, want %s", node, got, want)
		}
	}
	if n := len(b.all()); n != 1 {
		t.Errorf("%d observations", n)
	}
	if m := r.Metrics(); m.Refused != 2 {
		t.Errorf("%d refused", m.Refused)
	}
}
