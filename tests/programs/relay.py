"""Stands between a program that speaks TLS and one that doesn't, and keeps what went over the TLS connection.

    relay.py serve CERTIFICATE DIRECTORY STYLE BACKEND,BACKEND2 PORT...    takes TLS, hands it on in clear
    relay.py connect CERTIFICATE DIRECTORY STYLE PORT:SERVER...            takes clear, hands it on by TLS

With `serve` a client that chose HTTP/2 gets to BACKEND2. Nothing is handed on before a line comes on standard
input; the first bytes that wait for it are told by `holding PORT`. STYLE is how TLS begins: `direct`; `h2` or
`http/1.1` with that protocol; `postgresql` after an SSLRequest; `mysql` after a greeting and the answer to it, and
then both sides are TLS, as a server in clear would count its packets differently.

Of each connection, at its end: `connection NUMBER PORT LOCAL REMOTE`; what was read from the TLS side is in the
file NUMBER.read, what was written to it in NUMBER.wrote.
"""

import itertools
import select
import socket
import ssl
import sys
import threading

SIDE, CERTIFICATE, DIRECTORY, STYLE = sys.argv[1:5]
NUMBERS = itertools.count()
GATE = threading.Event()
PRINTING = threading.Lock()
CHUNK = 1 << 16


def say(*words):
    with PRINTING:
        print(*words, flush=True)


def exactly(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def address(pair):
    return "%s:%d" % pair[:2]


class Relayed:
    """A connection: its TLS side, its clear side."""

    def __init__(self, port, tls, clear):
        self.port, self.tls, self.clear = port, tls, clear
        self.ends = address(tls.getsockname()), address(tls.getpeername())
        self.read, self.wrote = bytearray(), bytearray()
        self.over = False

    def relay(self):
        self.tls.setblocking(False)
        reads = [self.tls, self.clear]
        while self.clear in reads and not self.over:
            ready = select.select(reads, [], [])[0]
            if self.tls in ready and not self.from_tls():
                reads.remove(self.tls)
            if self.clear in ready and not self.from_clear():
                reads.remove(self.clear)

    def from_tls(self):
        """Hands on all that has come; false at the end."""
        while True:
            try:
                data = self.tls.recv(CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            except OSError:
                data = b""
            if not data:
                # Only what is in clear can be closed in one direction; and HTTP/2 isn't.
                self.over = isinstance(self.clear, ssl.SSLSocket) or self.tls.selected_alpn_protocol() == "h2"
                if not self.over:
                    self.clear.shutdown(socket.SHUT_WR)
                return False
            self.read += data
            if not GATE.is_set():
                say("holding", self.port)
                GATE.wait()
            self.clear.sendall(data)

    def from_clear(self):
        # Where it is TLS it may be readable without anything to read.
        self.clear.setblocking(False)
        try:
            data = self.clear.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            data = b""
        finally:
            self.clear.setblocking(True)
        at = 0
        while at < len(data):
            try:
                sent = self.tls.send(data[at:])
                self.wrote += data[at : at + sent]
                at += sent
            except ssl.SSLWantWriteError:
                select.select([], [self.tls], [])
            except ssl.SSLWantReadError:
                select.select([self.tls], [], [])
            except OSError:
                return False
        return bool(data)

    def close(self):
        try:
            self.tls.setblocking(True)
            self.tls.settimeout(2)
            self.tls.unwrap()
        except (OSError, ValueError):
            pass
        self.tls.close()
        self.clear.close()
        number = next(NUMBERS)
        for name, data in (("read", self.read), ("wrote", self.wrote)):
            with open("%s/%d.%s" % (DIRECTORY, number, name), "wb") as file:
                file.write(data)
        say("connection", number, self.port, *self.ends)


def packet(connection):
    """A packet of MySQL's protocol."""
    header = exactly(connection, 4)
    return header + exactly(connection, int.from_bytes(header[:3], "little"))


def serve(backends):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    if STYLE == "h2" or len(backends) > 1:
        context.set_alpn_protocols(["h2", "http/1.1"])

    def accept(port, connection):
        if STYLE == "mysql":
            clear = socket.create_connection(("127.0.0.1", backends[0]))
            connection.sendall(packet(clear))
            clear.sendall(packet(connection))
            clear = client_context().wrap_socket(clear)
            return Relayed(port, context.wrap_socket(connection, server_side=True), clear)
        if STYLE == "postgresql":
            exactly(connection, 8)
            connection.sendall(b"S")
        tls = context.wrap_socket(connection, server_side=True)
        backend = backends[-1] if tls.selected_alpn_protocol() == "h2" else backends[0]
        clear = socket.create_connection(("127.0.0.1", backend))
        return Relayed(port, tls, clear)

    return accept


def connect(servers):
    context = client_context()
    if STYLE in ("h2", "http/1.1"):
        context.set_alpn_protocols([STYLE])

    def accept(port, clear):
        connection = socket.create_connection(("127.0.0.1", servers[port]))
        if STYLE == "mysql":
            clear.sendall(packet(connection))
            connection.sendall(packet(clear))
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(CERTIFICATE)
            clear = server.wrap_socket(clear, server_side=True)
        if STYLE == "postgresql":
            connection.sendall(bytes.fromhex("0000000804d2162f"))
            exactly(connection, 1)
        tls = context.wrap_socket(connection, server_hostname="localhost")
        return Relayed(port, tls, clear)

    return accept


def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def handle(accept, port, connection):
    try:
        relayed = accept(port, connection)
    except (OSError, EOFError) as error:
        say("refused", port, type(error).__name__, error)
        connection.close()
        return
    try:
        relayed.relay()
    finally:
        relayed.close()


def listen(accept, port, handlers):
    listener = socket.create_server(("127.0.0.1", port))
    say("listening", port)
    while True:
        connection = listener.accept()[0]
        handler = threading.Thread(target=handle, args=(accept, port, connection), daemon=True)
        handlers.append(handler)
        handler.start()


def main():
    if SIDE == "serve":
        backends = [int(port) for port in sys.argv[5].split(",")]
        accept, ports = serve(backends), [int(port) for port in sys.argv[6:]]
    else:
        servers = dict(map(int, pair.split(":")) for pair in sys.argv[5:])
        accept, ports = connect(servers), list(servers)
        GATE.set()
    handlers = []
    for port in ports:
        threading.Thread(target=listen, args=(accept, port, handlers), daemon=True).start()
    for _ in sys.stdin:
        GATE.set()
    # What is still open now will not end by itself.
    for handler in handlers:
        handler.join(5)


main()
