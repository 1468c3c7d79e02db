// gpu-plugin advertises devices that do not exist by the kubelet's device plugin API (v1beta1).
//
// It is a real plugin: it registers, lists its devices as healthy and answers Allocate with an
// environment variable (the devices' names) and nothing else. When the kubelet starts again it
// removes the plugin's socket; that is seen, and the plugin registers anew.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const poll = 500 * time.Millisecond

type plugin struct {
	api.UnimplementedDevicePluginServer
	resource, variable string
	count              int
	done               <-chan struct{}
}

func main() {
	resource := flag.String("resource", "nvidia.com/gpu", "name of the resource")
	count := flag.Int("count", 8, "number of devices")
	variable := flag.String("env", "NVIDIA_VISIBLE_DEVICES", "variable that names a container's devices")
	folder := flag.String("dir", api.DevicePluginPath, "folder of the kubelet's device plugin sockets")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	for ctx.Err() == nil {
		p := &plugin{resource: *resource, variable: *variable, count: *count}
		if err := p.run(ctx, *folder); err != nil {
			log.Print(err)
		}
		wait(ctx, poll)
	}
}

// run serves and registers once; it returns when the kubelet has forgotten the plugin.
func (p *plugin) run(ctx context.Context, folder string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.done = ctx.Done()
	socket := filepath.Join(folder, strings.ReplaceAll(p.resource, "/", "_")+".sock")
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, p)
	defer server.Stop()
	go func() { _ = server.Serve(listener) }()
	if err := p.register(ctx, filepath.Join(folder, "kubelet.sock"), filepath.Base(socket)); err != nil {
		return err
	}
	log.Printf("registered %d x %s", p.count, p.resource)
	for ctx.Err() == nil {
		if _, err := os.Stat(socket); err != nil {
			return fmt.Errorf("the kubelet started again: %w", err)
		}
		wait(ctx, poll)
	}
	return nil
}

func (p *plugin) register(ctx context.Context, kubelet, endpoint string) error {
	connection, err := grpc.NewClient("unix://"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version: api.Version, Endpoint: endpoint, ResourceName: p.resource,
		Options: &api.DevicePluginOptions{},
	})
	return err
}

func (p *plugin) devices() []*api.Device {
	devices := make([]*api.Device, p.count)
	for i := range devices {
		devices[i] = &api.Device{ID: fmt.Sprint(i), Health: api.Healthy}
	}
	return devices
}

// ListAndWatch says once which devices there are: they never change.
func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	if err := stream.Send(&api.ListAndWatchResponse{Devices: p.devices()}); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
	case <-p.done:
	}
	return nil
}

// Allocate gives a container the names of its devices.
func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		devices := strings.Join(container.DevicesIds, ",")
		response.ContainerResponses = append(response.ContainerResponses,
			&api.ContainerAllocateResponse{Envs: map[string]string{p.variable: devices}})
	}
	return response, nil
}

// GetDevicePluginOptions asks for no calls beyond Allocate.
func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func wait(ctx context.Context, duration time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(duration):
	}
}
