// Calls of the Snapshots service for the benches, as containerd's own callers make them, which are Go programs too: what
// the load itself takes of the processors is then what it takes on a node. The last line on stdout is one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/pkg/dialer"
	"google.golang.org/grpc"
)

// Without it containerd collects what nothing refers to, also between two calls.
var kept = map[string]string{"containerd.io/gc.root": "bench"}

var (
	address     = flag.String("address", "", "unix socket of containerd, or of a snapshotter itself")
	snapshotter = flag.String("snapshotter", "", "which of containerd's")
	clients     = flag.Int("clients", 1, "connections that each call again at once")
	ms          = flag.Int("ms", 1000, "cycle: for how long")
	count       = flag.Int("count", 0, "fill, stat: snapshots")
	calls       = flag.Int("calls", 500, "stat: how many, spread over all snapshots")
	run         = flag.String("run", "0", "cycle: makes names its own")
)

func main() {
	flag.Parse()
	result, err := work(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		os.Exit(1)
	}
}

func work(mode string) (interface{}, error) {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), "bench"), 10*time.Minute)
	defer cancel()
	lanes := make([]snapshotsapi.SnapshotsClient, *clients)
	for i := range lanes {
		connection, err := grpc.DialContext(ctx, dialer.DialAddress(*address),
			grpc.WithInsecure(), grpc.WithContextDialer(dialer.ContextDialer), grpc.WithBlock())
		if err != nil {
			return nil, fmt.Errorf("cannot connect to %s: %w", *address, err)
		}
		defer connection.Close()
		lanes[i] = snapshotsapi.NewSnapshotsClient(connection)
	}
	switch mode {
	case "cycle":
		return cycle(ctx, lanes)
	case "fill":
		return fill(ctx, lanes)
	case "list":
		return list(ctx, lanes[0])
	case "stat":
		return stat(ctx, lanes[0])
	}
	return nil, fmt.Errorf("unknown mode %q: use cycle, fill, list or stat", mode)
}

// Milliseconds of each call.
type latencies map[string][]float64

type cycles struct {
	Cycles    int       `json:"cycles"`
	Seconds   float64   `json:"seconds"`
	Latencies latencies `json:"latencies"`
}

// Prepare, Mounts, Commit and Remove over and over, on every connection at once, until the time is up.
func cycle(ctx context.Context, lanes []snapshotsapi.SnapshotsClient) (*cycles, error) {
	began := time.Now()
	until := began.Add(time.Duration(*ms) * time.Millisecond)
	found := make([]latencies, len(lanes))
	err := together(lanes, func(n int, client snapshotsapi.SnapshotsClient) error {
		taken := latencies{}
		found[n] = taken
		timed := func(name string, call func() error) error {
			before := time.Now()
			if err := call(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			taken[name] = append(taken[name], milliseconds(time.Since(before)))
			return nil
		}
		for i := 0; time.Now().Before(until); i++ {
			key := fmt.Sprintf("cycle-%s-%d-%d", *run, n, i)
			done := key + "-done"
			if err := timed("prepare", func() error {
				_, err := client.Prepare(ctx, &snapshotsapi.PrepareSnapshotRequest{Snapshotter: *snapshotter, Key: key, Labels: kept})
				return err
			}); err != nil {
				return err
			}
			if err := timed("mounts", func() error {
				_, err := client.Mounts(ctx, &snapshotsapi.MountsRequest{Snapshotter: *snapshotter, Key: key})
				return err
			}); err != nil {
				return err
			}
			if err := timed("commit", func() error {
				_, err := client.Commit(ctx, &snapshotsapi.CommitSnapshotRequest{Snapshotter: *snapshotter, Name: done, Key: key, Labels: kept})
				return err
			}); err != nil {
				return err
			}
			if err := timed("remove", func() error {
				_, err := client.Remove(ctx, &snapshotsapi.RemoveSnapshotRequest{Snapshotter: *snapshotter, Key: done})
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	result := &cycles{Seconds: time.Since(began).Seconds(), Latencies: latencies{}}
	for _, taken := range found {
		result.Cycles += len(taken["remove"])
		for name, each := range taken {
			result.Latencies[name] = append(result.Latencies[name], each...)
		}
	}
	// A snapshotter may leave files to Cleanup, which containerd calls and nobody else would here.
	if *snapshotter == "" {
		if _, err := lanes[0].Cleanup(ctx, &snapshotsapi.CleanupRequest{}); err != nil {
			return nil, fmt.Errorf("cleanup: %w", err)
		}
	}
	return result, nil
}

type filled struct {
	Count int `json:"count"`
}

// Active snapshots on one committed one, made by all connections together.
func fill(ctx context.Context, lanes []snapshotsapi.SnapshotsClient) (*filled, error) {
	base := &snapshotsapi.PrepareSnapshotRequest{Snapshotter: *snapshotter, Key: "base-active", Labels: kept}
	if _, err := lanes[0].Prepare(ctx, base); err != nil {
		return nil, err
	}
	commit := &snapshotsapi.CommitSnapshotRequest{Snapshotter: *snapshotter, Name: "base", Key: "base-active", Labels: kept}
	if _, err := lanes[0].Commit(ctx, commit); err != nil {
		return nil, err
	}
	var next int64
	err := together(lanes, func(_ int, client snapshotsapi.SnapshotsClient) error {
		for n := atomic.AddInt64(&next, 1) - 1; n < int64(*count); n = atomic.AddInt64(&next, 1) - 1 {
			request := &snapshotsapi.PrepareSnapshotRequest{Snapshotter: *snapshotter, Key: nameOf(int(n)), Parent: "base", Labels: kept}
			if _, err := client.Prepare(ctx, request); err != nil {
				return err
			}
		}
		return nil
	})
	return &filled{Count: *count}, err
}

type listed struct {
	Ms    float64 `json:"ms"`
	Count int     `json:"count"`
}

func list(ctx context.Context, client snapshotsapi.SnapshotsClient) (*listed, error) {
	began := time.Now()
	stream, err := client.List(ctx, &snapshotsapi.ListSnapshotsRequest{Snapshotter: *snapshotter})
	if err != nil {
		return nil, err
	}
	found := 0
	for {
		batch, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return &listed{Ms: milliseconds(time.Since(began)), Count: found}, nil
		}
		if err != nil {
			return nil, err
		}
		found += len(batch.Info)
	}
}

type looked struct {
	Ms float64 `json:"ms"`
}

// Of one Stat, over many one after the other.
func stat(ctx context.Context, client snapshotsapi.SnapshotsClient) (*looked, error) {
	began := time.Now()
	for i := 0; i < *calls; i++ {
		name := nameOf(i * *count / *calls)
		if _, err := client.Stat(ctx, &snapshotsapi.StatSnapshotRequest{Snapshotter: *snapshotter, Key: name}); err != nil {
			return nil, err
		}
	}
	return &looked{Ms: milliseconds(time.Since(began)) / float64(*calls)}, nil
}

// One error of those that ended a connection's work, if any did.
func together(lanes []snapshotsapi.SnapshotsClient, each func(n int, client snapshotsapi.SnapshotsClient) error) error {
	failures := make(chan error, len(lanes))
	var all sync.WaitGroup
	for n, client := range lanes {
		all.Add(1)
		go func(n int, client snapshotsapi.SnapshotsClient) {
			defer all.Done()
			if err := each(n, client); err != nil {
				failures <- err
			}
		}(n, client)
	}
	all.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}

func nameOf(n int) string {
	return fmt.Sprintf("many-%d", n)
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Nanoseconds()) / 1e6
}
