"""Answers every message: PEM-FILE PORT"""
import asyncio
import ssl
import sys

import websockets


async def answer(socket):
    async for message in socket:
        await socket.send("answer to " + message)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    async with websockets.serve(answer, "127.0.0.1", int(sys.argv[2]), ssl=context):
        await asyncio.Future()


asyncio.run(main())
