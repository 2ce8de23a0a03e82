"""Takes one mail after the other, or shows an empty box: PEM-FILE PORT smtp|imap|pop3 tls|starttls"""
import socket
import ssl
import sys

pem, port, protocol, security = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(pem)


def smtp(word, rest):
    yield {
        "EHLO": "250-live\r\n250 STARTTLS",
        "STARTTLS": "220 begin",
        "DATA": "354 go on",
        "QUIT": "221 bye",
    }.get(word, "250 ok")


def imap(tag, rest):
    if rest.startswith("CAPABILITY"):
        yield "* CAPABILITY IMAP4rev1"
    if rest.startswith("EXAMINE"):
        yield "* 0 EXISTS"
    yield tag + " OK done"


def pop3(word, rest):
    yield "-ERR unknown" if word == "CAPA" else "+OK"
    if word == "LIST":
        yield "."


GREETINGS = {"smtp": "220 live ready", "imap": "* OK ready", "pop3": "+OK ready"}
ANSWERS = {"smtp": smtp, "imap": imap, "pop3": pop3}


def serve(connection):
    if security == "tls":
        connection = context.wrap_socket(connection, server_side=True)
    connection.sendall(GREETINGS[protocol].encode() + b"\r\n")
    lines = connection.makefile("rb")
    mail = False
    while line := lines.readline():
        word, _, rest = line.decode().strip().partition(" ")
        if mail and word != ".":
            continue
        mail = protocol == "smtp" and word == "DATA"
        for answer in ANSWERS[protocol](word.upper() if protocol != "imap" else word, rest):
            connection.sendall(answer.encode() + b"\r\n")
        if word == "STARTTLS":
            connection = context.wrap_socket(connection, server_side=True)
            lines = connection.makefile("rb")


listener = socket.create_server(("127.0.0.1", int(port)))
while True:
    serve(listener.accept()[0])
