//! Programs in other languages that are not compiled.

use super::{CLIENT, HTTP1_GET, HTTP2, Installed, Row, Verdict};

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "PHP curl",
        installed: Installed::Apt("php-curl"),
        talk: HTTP2,
        command: &["php", "-r"],
        script: "
[, $url, $port, $mark] = $argv;
$curl = curl_init();
curl_setopt_array($curl, [CURLOPT_SSL_VERIFYPEER => false, CURLOPT_SSL_VERIFYHOST => 0]);
curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
foreach ([1, 2, 3] as $page) {
    curl_setopt($curl, CURLOPT_URL, \"$url/$page\");
    if ($page == 3) curl_setopt($curl, CURLOPT_POSTFIELDS, \"body from $mark\");
    if (!curl_exec($curl)) exit(1);
}",
        ..CLIENT
    },
    Row {
        program: "PHP streams",
        installed: Installed::Apt("php-cli"),
        command: &["php", "-r"],
        script: "
[, $url, $port, $mark] = $argv;
$post = ['method' => 'POST', 'header' => 'Content-Type: text/plain', 'content' => \"body from $mark\"];
foreach ([1, 2, 3] as $page) {
    $options = ['ssl' => ['verify_peer' => false, 'verify_peer_name' => false]];
    if ($page == 3) $options['http'] = $post;
    if (!file_get_contents(\"$url/$page\", false, stream_context_create($options))) exit(1);
}",
        ..CLIENT
    },
    Row {
        program: "Ruby net/http",
        installed: Installed::Apt("ruby"),
        command: &["ruby", "-e"],
        script: "
require 'net/http'
url, port, mark = ARGV
Net::HTTP.start('127.0.0.1', port, use_ssl: true, verify_mode: OpenSSL::SSL::VERIFY_NONE) do |http|
  http.get(\"/#{mark}/1\").value
  http.get(\"/#{mark}/2\").value
  http.post(\"/#{mark}/3\", \"body from #{mark}\").value
end",
        ..CLIENT
    },
    Row {
        program: "Perl IO::Socket::SSL",
        installed: Installed::Apt("libio-socket-ssl-perl"),
        talk: HTTP1_GET,
        command: &["perl", "-MIO::Socket::SSL", "-e"],
        script: "
my ($url, $port, $mark) = @ARGV;
for my $page (1, 2, 3) {
    my $socket = IO::Socket::SSL->new(PeerAddr => \"127.0.0.1:$port\", SSL_verify_mode => SSL_VERIFY_NONE)
        or die $SSL_ERROR;
    print $socket \"GET /$mark/$page HTTP/1.0\\r\\n\\r\\n\";
    <$socket> =~ / 200 / or die;
    while (<$socket>) {}
    close $socket;
}",
        ..CLIENT
    },
    Row {
        program: "Lua",
        installed: Installed::Apt("lua-sec lua5.3"),
        talk: HTTP1_GET,
        script: "cat >get.lua <<'END'
local socket, ssl = require 'socket', require 'ssl'
local url, port, mark = ...
for page = 1, 3 do
    local tcp = assert(socket.tcp())
    assert(tcp:connect('127.0.0.1', port))
    local tls = assert(ssl.wrap(tcp, { mode = 'client', protocol = 'any', verify = 'none' }))
    assert(tls:dohandshake())
    assert(tls:send(('GET /%s/%d HTTP/1.0\\r\\n\\r\\n'):format(mark, page)))
    assert(tls:receive('*a'):match('^HTTP/1.1 200 '))
    tls:close()
end
END
            exec lua5.3 get.lua \"$@\"",
        ..CLIENT
    },
    Row {
        program: "Java HttpsURLConnection",
        installed: Installed::Apt("default-jdk-headless"),
        file: "libjvm.so",
        talk: HTTP1_GET,
        verdict: Verdict::Nothing("Java's own TLS (JSSE) is compiled as it runs"),
        script: "cat >Get.java <<'END'
import java.net.URL;
import java.security.SecureRandom;
import java.security.cert.X509Certificate;
import javax.net.ssl.*;
class Get {
    public static void main(String[] args) throws Exception {
        TrustManager all = new X509ExtendedTrustManager() {
            public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
            public void checkClientTrusted(X509Certificate[] c, String a) {}
            public void checkServerTrusted(X509Certificate[] c, String a) {}
            public void checkClientTrusted(X509Certificate[] c, String a, java.net.Socket s) {}
            public void checkServerTrusted(X509Certificate[] c, String a, java.net.Socket s) {}
            public void checkClientTrusted(X509Certificate[] c, String a, SSLEngine e) {}
            public void checkServerTrusted(X509Certificate[] c, String a, SSLEngine e) {}
        };
        SSLContext context = SSLContext.getInstance(\"TLS\");
        context.init(null, new TrustManager[] { all }, new SecureRandom());
        HttpsURLConnection.setDefaultSSLSocketFactory(context.getSocketFactory());
        HttpsURLConnection.setDefaultHostnameVerifier((host, session) -> true);
        for (int page = 1; page <= 3; page++)
            new URL(args[0] + \"/\" + page).openStream().readAllBytes();
    }
}
END
            exec java -Xshare:auto -XX:TieredStopAtLevel=1 Get.java \"$1\"",
        ..CLIENT
    },
];
