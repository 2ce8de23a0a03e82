//! Programs in Python.

use super::{CLIENT, HTTP1_GET, Installed, PYTHON, Row, SERVER};

const PYTHON_CLIENT: Row = Row { installed: Installed::Apt("python3"), command: PYTHON, ..CLIENT };
const PYTHON_SERVER: Row = Row { installed: Installed::Apt("python3"), command: PYTHON, ..SERVER };

pub(crate) const PYCURL: &str = "
import io, pycurl, sys
url, port, mark = sys.argv[1:4]
curl, answer = pycurl.Curl(), io.BytesIO()
curl.setopt(curl.SSL_VERIFYPEER, 0)
curl.setopt(curl.SSL_VERIFYHOST, 0)
curl.setopt(curl.WRITEDATA, answer)
for page in 1, 2, 3:
    curl.setopt(curl.URL, f'{url}/{page}')
    if page == 3:
        curl.setopt(curl.POSTFIELDS, f'body from {mark}')
    curl.perform()
curl.close()";
pub(crate) const PYOPENSSL: &str = "
import socket, sys
from OpenSSL import SSL
url, port, mark = sys.argv[1:4]
context = SSL.Context(SSL.TLS_CLIENT_METHOD)
for page in 1, 2, 3:
    connection = SSL.Connection(context, socket.create_connection(('127.0.0.1', int(port))))
    connection.set_connect_state()
    connection.sendall(f'GET /{mark}/{page} HTTP/1.0\\r\\n\\r\\n'.encode())
    answer = b''
    try:
        while True:
            answer += connection.recv(1 << 16)
    except SSL.ZeroReturnError:
        assert answer.startswith(b'HTTP/1.1 200 ')
    connection.shutdown()
    connection.close()";

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "Python http.client",
        script: "
import http.client, ssl, sys
url, port, mark = sys.argv[1:4]
connection = http.client.HTTPSConnection('127.0.0.1', int(port), context=ssl._create_unverified_context())
for page in '1', '2':
    connection.request('GET', f'/{mark}/{page}')
    assert connection.getresponse().read()
connection.request('POST', f'/{mark}/3', f'body from {mark}')
assert connection.getresponse().read()
connection.close()",
        ..PYTHON_CLIENT
    },
    Row {
        program: "Python requests",
        installed: Installed::Apt("python3-requests"),
        script: "
import requests, sys, warnings
warnings.simplefilter('ignore')
url, port, mark = sys.argv[1:4]
with requests.Session() as session:
    assert session.get(f'{url}/1', verify=False).text and session.get(f'{url}/2', verify=False).text
    assert session.post(f'{url}/3', f'body from {mark}', verify=False).text",
        ..PYTHON_CLIENT
    },
    Row {
        program: "Python asyncio",
        socket: "record",
        talk: HTTP1_GET,
        script: "
import asyncio, ssl, sys
url, port, mark = sys.argv[1:4]
async def ask(page):
    context = ssl._create_unverified_context()
    reader, writer = await asyncio.open_connection('127.0.0.1', int(port), ssl=context)
    writer.write(f'GET /{mark}/{page} HTTP/1.0\\r\\n\\r\\n'.encode())
    assert (await reader.read()).startswith(b'HTTP/1.1 200 ')
    writer.close()
    await writer.wait_closed()
async def main():
    await asyncio.gather(*map(ask, (1, 2, 3)))
asyncio.run(main())",
        ..PYTHON_CLIENT
    },
    Row {
        program: "Python aiohttp",
        installed: Installed::Apt("python3-aiohttp"),
        socket: "record",
        script: "
import aiohttp, asyncio, sys
url, port, mark = sys.argv[1:4]
async def main():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        for page in 1, 2:
            async with session.get(f'{url}/{page}') as response:
                assert await response.text()
        async with session.post(f'{url}/3', data=f'body from {mark}') as response:
            assert await response.text()
asyncio.run(main())",
        ..PYTHON_CLIENT
    },
    Row {
        program: "pycurl",
        installed: Installed::Apt("python3-pycurl"),
        file: "libgnutls.so",
        script: PYCURL,
        ..PYTHON_CLIENT
    },
    Row {
        program: "pyOpenSSL",
        installed: Installed::Apt("python3-openssl"),
        talk: HTTP1_GET,
        script: PYOPENSSL,
        ..PYTHON_CLIENT
    },
    Row {
        program: "Python http.server",
        talk: HTTP1_GET,
        script: "
import functools, http.server, ssl, sys
port, certificate, _, _, directory = sys.argv[1:6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory + '/pages')
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(port)), handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()",
        ..PYTHON_SERVER
    },
    Row {
        program: "Python asyncio",
        socket: "record",
        script: "
import asyncio, ssl, sys
port, certificate = sys.argv[1:3]
async def serve(reader, writer):
    head = (await reader.readuntil(b'\\r\\n\\r\\n')).decode()
    lines = head.lower().split('\\r\\n')
    length = sum(int(line[15:]) for line in lines if line.startswith('content-length:'))
    text = (await reader.readexactly(length)).decode() + ' is what came, for ' + head.split(' ')[1]
    text *= 1000
    head = f'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: {len(text)}\\r\\n\\r\\n'
    writer.write((head + text).encode())
    await writer.drain()
    writer.close()
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(serve, '127.0.0.1', int(port), ssl=context)
    await server.serve_forever()
asyncio.run(main())",
        ..PYTHON_SERVER
    },
    Row {
        program: "Python aiohttp",
        installed: Installed::Apt("python3-aiohttp"),
        socket: "record",
        script: "
import ssl, sys
from aiohttp import web
port, certificate = sys.argv[1:3]
async def answer(request):
    return web.Response(text=f'{await request.text()} gets the page {request.path} ' * 1000)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
app = web.Application()
app.router.add_route('*', '/{path:.*}', answer)
web.run_app(app, host='127.0.0.1', port=int(port), ssl_context=context)",
        ..PYTHON_SERVER
    },
    Row {
        program: "uvicorn",
        installed: Installed::Apt("python3-uvicorn"),
        socket: "record",
        script: "
import sys, uvicorn
port, certificate = sys.argv[1:3]
async def app(scope, receive, send):
    body = (await receive()).get('body', b'')
    text = (body + b' gets the page ' + scope['path'].encode()) * 1000
    headers = [(b'content-length', str(len(text)).encode())]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    await send({'type': 'http.response.body', 'body': text})
uvicorn.run(app, host='127.0.0.1', port=int(port), ssl_certfile=certificate, ssl_keyfile=certificate,
            lifespan='off')",
        ..PYTHON_SERVER
    },
];
