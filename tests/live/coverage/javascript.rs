//! Programs in JavaScript.

use super::{CLIENT, HTTP2, Installed, NODE, Row, SERVER};

/// OpenSSL is within it, or, as Debian has it, isn't.
const NODE_FILE: &str = "node|libssl.so";

const NODE_CLIENT: Row =
    Row { installed: Installed::Apt("nodejs"), file: NODE_FILE, command: NODE, socket: "record", ..CLIENT };
const NODE_SERVER: Row =
    Row { installed: Installed::Apt("nodejs"), file: NODE_FILE, command: NODE, socket: "record", ..SERVER };

pub(crate) const HTTPS_CLIENT: &str = "
const https = require('https'), [url, port, mark] = process.argv.slice(1)
const ask = (page, method, body) => new Promise((done, fail) => {
  const options = { method, rejectUnauthorized: false, headers: { 'Content-Length': body.length } }
  const request = https.request(`${url}/${page}`, options, (answer) => answer.resume().on('end', done))
  request.on('error', fail).end(body)
})
ask(1, 'GET', '').then(() => ask(2, 'GET', '')).then(() => ask(3, 'POST', `body from ${mark}`))";
pub(crate) const HTTPS_SERVER: &str = "
const fs = require('fs'), https = require('https'), [port, file] = process.argv.slice(1)
const pem = fs.readFileSync(file)
https.createServer({ key: pem, cert: pem }, (request, response) => {
  let body = ''
  request.on('data', (data) => { body += data })
  request.on('end', () => {
    const text = `${body} gets the page ${request.url} `.repeat(1000)
    response.writeHead(200, { 'Content-Length': text.length })
    response.end(text)
  })
}).listen(Number(port), '127.0.0.1')";

pub(crate) const ROWS: &[Row] = &[
    Row { program: "node https", script: HTTPS_CLIENT, ..NODE_CLIENT },
    Row {
        program: "node fetch",
        script: "
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
const [url, port, mark] = process.argv.slice(1)
const ask = async (page, options) => (await fetch(`${url}/${page}`, options)).text()
const main = async () => {
  await Promise.all([ask(1), ask(2), ask(3, { method: 'POST', body: `body from ${mark}` })])
}
main()",
        ..NODE_CLIENT
    },
    Row {
        program: "node http2",
        talk: HTTP2,
        script: "
const http2 = require('http2'), [url, port, mark] = process.argv.slice(1)
const session = http2.connect(url, { rejectUnauthorized: false })
const ask = (page, method, body) => new Promise((done, fail) => {
  const stream = session.request({ ':path': `/${mark}/${page}`, ':method': method })
  stream.on('end', done).on('error', fail).resume()
  if (body) stream.end(body)
})
const asks = [ask(1, 'GET', ''), ask(2, 'GET', ''), ask(3, 'POST', `body from ${mark}`)]
Promise.all(asks).then(() => session.close())",
        ..NODE_CLIENT
    },
    Row { program: "node https", script: HTTPS_SERVER, ..NODE_SERVER },
    Row {
        program: "node http2",
        talk: HTTP2,
        script: "
const fs = require('fs'), http2 = require('http2'), [port, file] = process.argv.slice(1)
const pem = fs.readFileSync(file)
http2.createSecureServer({ key: pem, cert: pem }).on('stream', (stream, headers) => {
  let body = ''
  stream.on('data', (data) => { body += data })
  stream.on('end', () => {
    stream.respond({ ':status': 200 })
    stream.end(`${body} gets the page ${headers[':path']} `.repeat(1000))
  })
}).listen(Number(port), '127.0.0.1')",
        ..NODE_SERVER
    },
];
