"""Sends one message and prints the answer: PORT"""
import ssl
import sys

import websocket

address = f"wss://127.0.0.1:{sys.argv[1]}/chat"
socket = websocket.create_connection(address, sslopt={"cert_reqs": ssl.CERT_NONE})
socket.send("hello")
print(socket.recv())
socket.close()
