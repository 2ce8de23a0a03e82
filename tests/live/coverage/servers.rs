//! Servers of the web, and what gives other servers TLS.

use super::{HTTP1_GET, HTTP2, Installed, Row, SERVER, Talk};

const NGINX: Row = Row {
    installed: Installed::Apt("nginx-light"),
    script: "cat >settings <<END
daemon off; pid $5/pid; error_log stderr; events {}
http {
    access_log off;
    client_body_temp_path $5/t1; proxy_temp_path $5/t2; fastcgi_temp_path $5/t3;
    uwsgi_temp_path $5/t4; scgi_temp_path $5/t5;
    server {
        listen 127.0.0.1:$1 ssl http2;
        ssl_certificate $2; ssl_certificate_key $2;
        location / { proxy_pass http://127.0.0.1:$3; }
    }
}
END
        exec nginx -e stderr -c \"$5/settings\"",
    ..SERVER
};
const HAPROXY: Row = Row {
    installed: Installed::Apt("haproxy"),
    script: "cat >settings <<END
defaults
    mode http
    timeout connect 10s
    timeout client 10s
    timeout server 10s
frontend front
    bind 127.0.0.1:$1 ssl crt $2 alpn h2,http/1.1
    default_backend back
backend back
    server web 127.0.0.1:$3
END
        exec haproxy -f settings -db",
    ..SERVER
};
const APACHE: Row = Row {
    installed: Installed::Apt("apache2"),
    script: "cat >settings <<END
ServerName localhost
Listen 127.0.0.1:$1
PidFile $5/pid
ErrorLog /dev/stderr
Mutex file:$5
DefaultRuntimeDir $5
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so
DocumentRoot $5/pages
Protocols h2 http/1.1
SSLEngine on
SSLCertificateFile $2
EnableSendfile off
<Directory $5/pages>
    Require all granted
</Directory>
END
        exec apache2 -f \"$5/settings\" -DFOREGROUND",
    talk: HTTP1_GET,
    ..SERVER
};
const LIGHTTPD: Row = Row {
    installed: Installed::Apt("lighttpd lighttpd-mod-openssl"),
    script: "cat >settings <<END
server.modules = ( \"mod_openssl\" )
server.document-root = \"$5/pages\"
server.bind = \"127.0.0.1\"
server.port = $1
ssl.engine = \"enable\"
ssl.pemfile = \"$2\"
END
        exec lighttpd -D -f settings",
    talk: HTTP1_GET,
    ..SERVER
};

pub(crate) const ROWS: &[Row] = &[
    Row { program: "nginx", ..NGINX },
    Row { program: "nginx, HTTP/2", talk: HTTP2, ..NGINX },
    Row { program: "Apache", ..APACHE },
    Row { program: "Apache, HTTP/2", talk: Talk::Http { version: 2, posts: false }, ..APACHE },
    Row { program: "lighttpd", ..LIGHTTPD },
    Row { program: "HAProxy", ..HAPROXY },
    Row { program: "HAProxy, HTTP/2", talk: HTTP2, ..HAPROXY },
    Row {
        program: "stunnel",
        installed: Installed::Apt("stunnel4"),
        script: "cat >settings <<END
foreground = yes
pid =
[web]
accept = 127.0.0.1:$1
connect = 127.0.0.1:$3
cert = $2
END
            exec stunnel4 settings",
        ..SERVER
    },
    Row {
        program: "socat",
        installed: Installed::Apt("socat"),
        script: "exec socat \"OPENSSL-LISTEN:$1,bind=127.0.0.1,fork,reuseaddr,cert=$2,verify=0\" \\
            \"TCP:127.0.0.1:$3\"",
        ..SERVER
    },
    Row {
        program: "ncat",
        installed: Installed::Apt("ncat"),
        script: "exec ncat -lk --ssl --ssl-cert \"$2\" --ssl-key \"$2\" -c \"ncat 127.0.0.1 $3\" \\
            127.0.0.1 \"$1\"",
        ..SERVER
    },
    Row {
        program: "openssl s_server",
        installed: Installed::Apt("openssl"),
        talk: Talk::Other {
            protocol: "lines",
            style: "direct",
            peer: &[
                "sh",
                "-euc",
                "{ for number in 1 2 3; do echo \"question $number from $2\"; sleep 0.1; done; sleep 1; } |
                ncat 127.0.0.1 \"$1\"",
                "sh",
            ],
            asks: &["question 1 from {}\n", "question 2 from {}\n", "question 3 from {}\n"],
            answers: &["answer 1 of {}\n", "answer 2 of {}\n", "answer 3 of {}\n"],
        },
        script: "mkfifo answers
            exec 3<>answers
            for number in 1 2 3; do echo \"answer $number of ${5##*/}\" >&3; done
            exec openssl s_server -quiet -accept \"127.0.0.1:$1\" -cert \"$2\" <&3",
        ..SERVER
    },
    Row {
        program: "openssl s_server -WWW",
        installed: Installed::Apt("openssl"),
        talk: HTTP1_GET,
        script: "cd pages; exec openssl s_server -quiet -WWW -accept \"127.0.0.1:$1\" -cert \"$2\"",
        ..SERVER
    },
    Row {
        program: "gnutls-serv",
        installed: Installed::Apt("gnutls-bin"),
        file: "libgnutls.so",
        talk: HTTP1_GET,
        script: "exec gnutls-serv -q --http --port \"$1\" --x509keyfile \"$2\" --x509certfile \"$2\"",
        ..SERVER
    },
    Row {
        program: "selfserv",
        installed: Installed::Apt("libnss3-tools"),
        file: "libssl3.so",
        talk: HTTP1_GET,
        script: "echo word >password
            certutil -N -d sql:. -f password
            openssl pkcs12 -export -in \"$2\" -name server -passout pass: -out p12
            pk12util -i p12 -d sql:. -k password -W ''
            exec selfserv -d sql:. -f password -n server -p \"$1\"",
        ..SERVER
    },
];
