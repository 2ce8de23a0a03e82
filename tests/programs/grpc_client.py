"""Calls with each line that is typed, over one connection: PEM-FILE PORT"""
import sys

import grpc


def message(text):
    """A message of Protocol Buffers whose field 1 is a short text."""
    return bytes([0x0A, len(text)]) + text


pem = open(sys.argv[1], "rb").read()
options = (("grpc.ssl_target_name_override", "live"),)
channel = grpc.secure_channel("127.0.0.1:" + sys.argv[2], grpc.ssl_channel_credentials(pem), options)
call = channel.unary_unary("/shop.Cart/Add")
for line in sys.stdin:
    print(call(message(line.strip().encode()))[2:].decode(), flush=True)
channel.close()
