// SPDX-License-Identifier: MIT OR Apache-2.0

// Moves bytes over Go's crypto/tls, and tells what it moved. Only the standard library, of any Go since 1.15.
//
//	usage: gomove [OPTION...] client|server ADDRESS:PORT STEP...
//	       gomove [OPTION...] get|serve ADDRESS:PORT
//
// client and server do the steps: wN writes N bytes in one call, rN reads until N bytes are there. get asks for
// pages over HTTP, serve answers with what was sent. A server prints "listening", and ends with its standard
// input. Each session ends with a line of key=value pairs: numbers and SHA-256 sums of what its calls moved, and
// the addresses as the socket tells them. (Not with -2: net/http wants the connection itself.) The secrets of sessions
// are appended to $SSLKEYLOGFILE.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"flag"
	"fmt"
	"hash"
	"io"
	"io/ioutil"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
)

var (
	certificate = flag.String("c", "", "certificate and key, in one file")
	seed        = flag.Uint64("s", 0, "client|server: what the first session writes, further ones have the next")
	sessions    = flag.Int("n", 1, "sessions one after another, each on a new connection")
	parallel    = flag.Int("t", 1, "goroutines that do so at the same time")
	inner       = flag.Bool("i", false, "TLS inside TLS: the steps are done by an inner session")
	onStack     = flag.Bool("m", false, "reads into the goroutine's stack, which moves meanwhile")
	half        = flag.Bool("h", false, "closes its writing side first, and reads to the end")
	http2       = flag.Bool("2", false, "get|serve: HTTP/2")
	requests    = flag.Int("r", 1, "get: requests in each session")
	gates       = flag.Bool("g", false, "get: before each request but the first prints \"gate\" and waits for a line")
	old         = flag.Bool("o", false, "TLS 1.2")
	body        = flag.Int("b", 0, "get: bytes that are sent with each request")

	begun    uint64
	printing sync.Mutex
)

// A sum of what went one way.
type sum struct {
	hash  hash.Hash
	bytes uint64
}

func newSum() sum { return sum{hash: sha256.New()} }

func (s *sum) add(b []byte) {
	s.hash.Write(b)
	s.bytes += uint64(len(b))
}

// A TLS connection that counts what its calls move.
type counted struct {
	*tls.Conn
	layer       string
	seed        uint64
	wrote, read sum
	mutex       sync.Mutex // net/http reads and writes at the same time
	told        bool
}

func count(conn *tls.Conn, layer string, seed uint64) *counted {
	return &counted{Conn: conn, layer: layer, seed: seed, wrote: newSum(), read: newSum()}
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.read.add(b[:n])
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.wrote.add(b[:n])
	return n, err
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.tell()
	return err
}

func (c *counted) tell() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.told {
		return
	}
	c.told = true
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf("session layer=%s pid=%d ssl=%p seed=%d waits=0 local=%s remote=%s "+
		"wrote=%d wrote_sha256=%x read=%d read_sha256=%x\n",
		c.layer, os.Getpid(), c.Conn, c.seed, c.LocalAddr(), c.RemoteAddr(),
		c.wrote.bytes, c.wrote.hash.Sum(nil), c.read.bytes, c.read.hash.Sum(nil))
}

// Words of eight bytes: the seed in the upper 16 bits, the word's number in the others.
func pattern(seed uint64, from, length int) []byte {
	words := make([]byte, (length+15)/8*8+8)
	for i := 0; i < len(words); i += 8 {
		binary.BigEndian.PutUint64(words[i:], seed<<48|uint64(from/8+i/8))
	}
	return words[from%8:][:length]
}

// Reads into the stack of a goroutine while this is moved about: by growth, as its frames become more, and by
// the garbage collector, which makes stacks small again.
func readOnStack(c *counted, left int) {
	var buffer [3000]byte
	for left > 0 {
		want := buffer[:]
		if left < len(want) {
			want = want[:left]
		}
		n, err := c.Conn.Read(want)
		c.read.add(append([]byte(nil), want[:n]...)) // what an interface gets is not left on the stack
		check(err)
		left -= n
		runtime.GC()
		deepen(int(c.read.bytes % 200))
	}
}

//go:noinline
func deepen(depth int) byte {
	var frame [512]byte
	frame[depth%512] = byte(depth)
	if depth > 0 {
		frame[0] += deepen(depth - 1)
	}
	return frame[depth%512]
}

func read(c *counted, length int) {
	if !*onStack {
		_, err := io.ReadFull(c, make([]byte, length))
		check(err)
		return
	}
	done := make(chan bool)
	go func() { // on a stack of the smallest size
		readOnStack(c, length)
		close(done)
	}()
	<-done
}

func steps(c *counted) {
	position := 0
	for _, step := range flag.Args()[2:] {
		length, err := strconv.Atoi(step[1:])
		check(err)
		if step[0] == 'r' {
			read(c, length)
			continue
		}
		_, err = c.Write(pattern(c.seed, position, length))
		check(err)
		position += length
	}
}

// One session, from its handshake to its end.
func session(socket net.Conn, wrap func(net.Conn) *tls.Conn) {
	c := count(wrap(socket), "only", *seed+atomic.AddUint64(&begun, 1)-1)
	if !*inner {
		steps(c)
		finish(c)
		return
	}
	c.layer = "outer"
	within := count(wrap(c), "inner", c.seed+1000)
	steps(within)
	finish(within)
	c.tell()
}

func finish(c *counted) {
	if *half {
		check(c.CloseWrite())
		_, err := ioutil.ReadAll(c)
		check(err)
	}
	c.Close()
}

func together(work func()) {
	var all sync.WaitGroup
	for i := 0; i < *parallel; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			work()
		}()
	}
	all.Wait()
}

func client(address string) {
	settings := &tls.Config{InsecureSkipVerify: true, KeyLogWriter: keyLog(), MaxVersion: newest()}
	together(func() {
		for i := 0; i < *sessions; i++ {
			socket, err := net.Dial("tcp", address)
			check(err)
			session(socket, func(c net.Conn) *tls.Conn { return tls.Client(c, settings) })
		}
	})
}

func server(address string, settings *tls.Config) {
	listener := listen(address)
	together(func() {
		for i := 0; i < *sessions; i++ {
			socket, err := listener.Accept()
			check(err)
			session(socket, func(c net.Conn) *tls.Conn { return tls.Server(c, settings) })
		}
	})
}

func listen(address string) net.Listener {
	listener, err := net.Listen("tcp", address)
	check(err)
	fmt.Println("listening")
	return listener
}

// --- HTTP ---

func get(address string) {
	together(func() {
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, KeyLogWriter: keyLog(), MaxVersion: newest()},
			ForceAttemptHTTP2: *http2,
		}
		var c *counted
		if !*http2 {
			transport.DialTLS = func(network, address string) (net.Conn, error) {
				conn, err := tls.Dial(network, address, transport.TLSClientConfig)
				if err != nil {
					return nil, err
				}
				c = count(conn, "only", 0)
				return c, nil
			}
		}
		for i := 0; i < *requests; i++ {
			if *gates && i > 0 {
				fmt.Println("gate")
				fmt.Scanln()
			}
			ask(&http.Client{Transport: transport}, fmt.Sprintf("https://%s/page/%d", address, i))
		}
		transport.CloseIdleConnections()
		if c != nil {
			c.tell()
		}
	})
}

func ask(client *http.Client, url string) {
	sent := pattern(*seed, 0, *body)
	answer, err := client.Post(url, "application/octet-stream", bytes.NewReader(sent))
	check(err)
	got, err := ioutil.ReadAll(answer.Body)
	check(err)
	answer.Body.Close()
	if answer.StatusCode != 200 || !bytes.Equal(got, sent) {
		log.Fatalf("%s: status %d, %d bytes", url, answer.StatusCode, len(got))
	}
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf("answer %s %s %d\n", answer.Proto, url, len(got))
}

type counting struct{ net.Listener }

func (l counting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return count(conn.(*tls.Conn), "only", 0), nil
}

func serve(address string, settings *tls.Config) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		got, err := ioutil.ReadAll(r.Body)
		if err == nil {
			w.Write(got)
		}
	}
	server := &http.Server{Handler: http.HandlerFunc(echo), TLSConfig: settings}
	go func() {
		ioutil.ReadAll(os.Stdin)
		server.Shutdown(context.Background())
	}()
	listener := listen(address)
	var err error
	if *http2 {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(counting{tls.NewListener(listener, settings)})
	}
	if err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

// Where the secrets of sessions are appended, if that is asked for.
func keyLog() io.Writer {
	name := os.Getenv("SSLKEYLOGFILE")
	if name == "" {
		return nil
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
	check(err)
	return file
}

func newest() uint16 {
	if *old {
		return tls.VersionTLS12
	}
	return 0
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	flag.Parse()
	address, settings := flag.Arg(1), &tls.Config{KeyLogWriter: keyLog(), MaxVersion: newest()}
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *certificate)
		check(err)
		settings.Certificates = []tls.Certificate{pair}
	}
	switch flag.Arg(0) {
	case "client":
		client(address)
	case "server":
		server(address, settings)
	case "get":
		get(address)
	case "serve":
		serve(address, settings)
	default:
		log.Fatalf("client, server, get or serve? not %q", flag.Arg(0))
	}
}
