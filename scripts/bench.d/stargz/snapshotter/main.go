// stargz-snapshotter as a proxy plug-in of containerd, for the benches: the library of Debian's package, which lacks
// the project's own main. Settings are the library's defaults, as a configuration file that says nothing gives.
package main

import (
	"context"
	"flag"
	"net"
	"os"
	"os/signal"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/service"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

func main() {
	address := flag.String("address", "", "unix socket to serve on")
	root := flag.String("root", "", "folder of its data")
	flag.Parse()
	if *address == "" || *root == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	// No lines for single calls, like containerd and thaw in the benches.
	logrus.SetLevel(logrus.InfoLevel)
	logrus.SetFormatter(&logrus.JSONFormatter{})

	snapshotter, err := service.NewStargzSnapshotterService(context.Background(), *root, &service.Config{})
	if err != nil {
		logrus.WithError(err).Fatal("Cannot start the snapshotter")
	}
	listener, err := net.Listen("unix", *address)
	if err != nil {
		logrus.WithError(err).Fatal("Cannot serve")
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	go func() {
		<-stop
		server.Stop()
	}()
	if err := server.Serve(listener); err != nil {
		logrus.WithError(err).Fatal("Cannot serve")
	}
	// Takes its mounts away.
	if err := snapshotter.Close(); err != nil {
		logrus.WithError(err).Fatal("Cannot close the snapshotter")
	}
}
