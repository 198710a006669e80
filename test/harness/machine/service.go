package machine

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/kubelet"
)

// Service is the address and port of a Service. A connection goes to whoever is
// behind it when it begins and stays there when another takes over, as with
// kube-proxy: a route that is replaced would cut what is under way.
type Service struct {
	network *Network
	address netip.AddrPort

	mu       sync.Mutex
	backend  *Space
	port     string
	listener net.Listener // nil while nobody is behind it
}

// NewService makes the address one that refuses connections until To names who is
// behind it.
func (n *Network) NewService(ctx context.Context, address netip.AddrPort) (*Service, error) {
	s := &Service{network: n, address: address}
	n.run.OnClose(func() { _ = s.To(context.WithoutCancel(ctx), nil, "") })
	return s, n.bridge.ip(ctx, "addr replace "+address.Addr().String()+"/32 dev lo")
}

// To has connections that begin from now on go to a port of a namespace; with nil
// they are refused.
func (s *Service) To(ctx context.Context, backend *Space, port string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backend, s.port = backend, port
	if backend == nil {
		if s.listener == nil {
			return nil
		}
		err := s.listener.Close()
		s.listener = nil
		return err
	}
	if s.listener != nil {
		return nil
	}
	listener, err := s.network.bridge.Listen(ctx, s.address.String())
	if err != nil {
		return fmt.Errorf("listen for service %s: %w", s.address, err)
	}
	s.listener = listener
	go s.accept(context.WithoutCancel(ctx), listener)
	return nil
}

func (s *Service) accept(ctx context.Context, listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed
		}
		go s.carry(ctx, client.(*net.TCPConn))
	}
}

// carry takes a connection to whoever is behind the address now, until its end.
func (s *Service) carry(ctx context.Context, client *net.TCPConn) {
	s.mu.Lock()
	backend, port := s.backend, s.port
	s.mu.Unlock()
	if backend == nil {
		reset(client) // it came while the last one went
		return
	}
	pod, err := s.network.bridge.DialContext(ctx, "tcp", net.JoinHostPort(backend.IP.String(), port))
	if err != nil {
		reset(client)
		return
	}
	var ways sync.WaitGroup
	ways.Go(func() { oneWay(client, pod.(*net.TCPConn)) })
	oneWay(pod.(*net.TCPConn), client)
	ways.Wait()
	_, _ = client.Close(), pod.Close()
}

// oneWay copies until the end of one side and passes it on: an end as an end, a
// reset as a reset, which ends the other way too.
func oneWay(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil || to.CloseWrite() != nil {
		reset(to)
		reset(from)
	}
}

func reset(c *net.TCPConn) { _, _ = c.SetLinger(0), c.Close() }

// routeService sends the address of Service registry to the newest ready pod
// behind it, as kube-proxy would.
func (s *Standins) routeService(ctx context.Context, pods []corev1.Pod) error {
	var services corev1.ServiceList
	if err := s.view.List(ctx, &services, client.InNamespace("d8-system")); err != nil {
		return err
	}
	for _, service := range services.Items {
		address, err := netip.ParseAddr(service.Spec.ClusterIP)
		if err != nil {
			continue // headless
		}
		var newest *corev1.Pod
		for i := range pods {
			pod := &pods[i]
			if pod.Namespace == service.Namespace && kubelet.Ready(pod) && len(service.Spec.Selector) > 0 &&
				labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) &&
				(newest == nil || newest.CreationTimestamp.Before(&pod.CreationTimestamp)) {
				newest = pod
			}
		}
		if err := s.route(ctx, &service, address, newest); err != nil {
			return err
		}
	}
	return nil
}

func (s *Standins) route(ctx context.Context, service *corev1.Service, address netip.Addr, pod *corev1.Pod) error {
	for _, port := range service.Spec.Ports {
		at := netip.AddrPortFrom(address, uint16(port.Port))
		if s.services[at] == nil {
			made, err := s.cluster.Network.NewService(ctx, at)
			if err != nil {
				return err
			}
			s.services[at] = made
		}
		var space *Space
		if pod != nil {
			space = s.pods.space(pod)
		}
		if err := s.services[at].To(ctx, space, containerPort(pod, port.TargetPort)); err != nil {
			return err
		}
	}
	return nil
}

// containerPort is the number of a port that may be given by its name.
func containerPort(pod *corev1.Pod, port intstr.IntOrString) string {
	for i := 0; pod != nil && i < len(pod.Spec.Containers); i++ {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.Name == port.StrVal {
				return strconv.Itoa(int(p.ContainerPort))
			}
		}
	}
	return port.String()
}
