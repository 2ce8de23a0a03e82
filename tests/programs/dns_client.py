"""Asks for the address of live.example over TLS (RFC 7858), and prints the answer's last four bytes."""
import socket
import ssl
import struct

QUESTION = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04live\x07example\x00\x00\x01\x00\x01"

plain = socket.create_connection(("127.0.0.1", 853))
connection = ssl._create_unverified_context().wrap_socket(plain)
connection.sendall(struct.pack("!H", len(QUESTION)) + QUESTION)
answer = connection.makefile("rb")
(length,) = struct.unpack("!H", answer.read(2))
print(".".join(map(str, answer.read(length)[-4:])))
connection.unwrap()
