"""Answers every call: PEM-FILE PORT"""
import sys
from concurrent import futures

import grpc


def message(text):
    """A message of Protocol Buffers whose field 1 is a short text."""
    return bytes([0x0A, len(text)]) + text


class Answers(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        def answer(request, context):
            return message(b"answer to " + request[2:])

        return grpc.unary_unary_rpc_method_handler(answer)


pem = open(sys.argv[1], "rb").read()
server = grpc.server(futures.ThreadPoolExecutor(1))
server.add_generic_rpc_handlers((Answers(),))
server.add_secure_port("127.0.0.1:" + sys.argv[2], grpc.ssl_server_credentials([(pem, pem)]))
server.start()
server.wait_for_termination()
