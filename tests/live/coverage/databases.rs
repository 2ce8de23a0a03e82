//! Databases and message brokers: clients and servers. What they run is in `tests/programs/databases.sh`.

use super::{CLIENT, Installed, Row, SERVER, Talk};

const DATABASES: &[&str] = &["sh", "-euc", SCRIPT, "sh"];
const SCRIPT: &str = include_str!("../../programs/databases.sh");

/// `behind` is the function that is the peer.
const fn sql(protocol: &'static str, style: &'static str, behind: &'static [&'static str]) -> Talk {
    Talk::Other {
        protocol,
        style,
        peer: behind,
        asks: &["SELECT 'one for {}'", "SELECT 'two for {}'", "SELECT repeat('{},', 10000)"],
        answers: &["one for {}", "two for {}", "{},{},{},{},{},{},{},{},{},{},{},{}"],
    }
}

const fn redis(behind: &'static [&'static str]) -> Talk {
    Talk::Other {
        protocol: "Redis",
        style: "direct",
        peer: behind,
        asks: &["SET\r\n", "GET\r\n", "APPEND\r\n$13\r\napples-{}\r\n$18\r\n, second of {}\r\n"],
        answers: &["+OK\r\n", "\r\nfirst of {}\r\n", ":33\r\n"],
    }
}

const fn mqtt(behind: &'static [&'static str]) -> Talk {
    let words = &["first of {}", "second of {}", "third of {}"];
    Talk::Other { protocol: "MQTT", style: "direct", peer: behind, asks: words, answers: words }
}

const DATABASE_CLIENT: Row = Row { command: DATABASES, ..CLIENT };
const DATABASE_SERVER: Row = Row { command: DATABASES, ..SERVER };

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "psql",
        installed: Installed::Apt("postgresql-client"),
        talk: sql("PostgreSQL", "postgresql", &["sh", "-euc", SCRIPT, "sh", "behind_postgresql_client"]),
        script: "postgresql_client",
        ..DATABASE_CLIENT
    },
    Row {
        program: "PostgreSQL",
        installed: Installed::Apt("postgresql"),
        talk: sql("PostgreSQL", "postgresql", &["sh", "-euc", SCRIPT, "sh", "behind_postgresql_server"]),
        script: "postgresql_server",
        ..DATABASE_SERVER
    },
    Row {
        program: "psycopg2",
        installed: Installed::Other { from: "wheel", package: "psycopg2-binary", directory: "psycopg2" },
        file: "libssl-",
        talk: sql("PostgreSQL", "postgresql", &["sh", "-euc", SCRIPT, "sh", "behind_postgresql_client"]),
        script: "psycopg2_client",
        ..DATABASE_CLIENT
    },
    Row {
        program: "MariaDB",
        installed: Installed::Apt("mariadb-client"),
        talk: sql("MySQL", "mysql", &["sh", "-euc", SCRIPT, "sh", "behind_mariadb_client"]),
        script: "mariadb_client",
        ..DATABASE_CLIENT
    },
    Row {
        program: "MariaDB",
        installed: Installed::Apt("mariadb-server"),
        talk: sql("MySQL", "mysql", &["sh", "-euc", SCRIPT, "sh", "behind_mariadb_server"]),
        script: "mariadb_server",
        ..DATABASE_SERVER
    },
    Row {
        program: "redis-cli",
        installed: Installed::Apt("redis-tools"),
        talk: redis(&["sh", "-euc", SCRIPT, "sh", "behind_redis_client"]),
        script: "redis_client",
        ..DATABASE_CLIENT
    },
    Row {
        program: "Redis",
        installed: Installed::Apt("redis-tools"),
        talk: redis(&["sh", "-euc", SCRIPT, "sh", "behind_redis_server"]),
        script: "redis_server",
        ..DATABASE_SERVER
    },
    Row {
        program: "mosquitto_pub and mosquitto_sub",
        installed: Installed::Apt("mosquitto-clients"),
        talk: mqtt(&["sh", "-euc", SCRIPT, "sh", "behind_mosquitto_client"]),
        script: "mosquitto_client",
        ..DATABASE_CLIENT
    },
    Row {
        program: "mosquitto",
        installed: Installed::Apt("mosquitto"),
        talk: mqtt(&["sh", "-euc", SCRIPT, "sh", "behind_mosquitto_server"]),
        script: "mosquitto_server",
        ..DATABASE_SERVER
    },
];
