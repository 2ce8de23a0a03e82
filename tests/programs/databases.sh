# shellcheck shell=sh
# shellcheck disable=SC2012,SC2164 # it is run with -e, and no name there is strange
# Servers and clients of databases and message brokers: the first argument is what to do, the others belong to
# it. Sourced by nobody: tests/live/coverage/databases.rs runs it by `sh -euc`.

# --- what rows run: with the arguments of their side -------------------------------------------------------

postgresql_client() { ask_postgresql "$2" "$3" sslmode=require; }
postgresql_server() { postgresql "$1" "$5" -c ssl=on -c "ssl_cert_file=$5/pem" -c "ssl_key_file=$5/pem"; }
psycopg2_client() {
    PYTHONPATH=/opt/psycopg2 exec /usr/bin/python3 -c "
import psycopg2, sys
port, mark = sys.argv[1:3]
connection = psycopg2.connect(f'host=127.0.0.1 port={port} user=live dbname=postgres sslmode=require')
cursor = connection.cursor()
for query in f\"SELECT 'one for {mark}'\", f\"SELECT 'two for {mark}'\", f\"SELECT repeat('{mark},', 10000)\":
    cursor.execute(query)
    assert mark in cursor.fetchone()[0]
connection.close()" "$2" "$3"
}
mariadb_client() { ask_mariadb "$2" "$3"; }
mariadb_server() { mariadb "$1" "$5" "$2"; }
redis_client() { ask_redis "$2" "$3" --tls --insecure; }
redis_server() { redis "$5" --port 0 --tls-port "$1" --tls-auth-clients no --tls-cert-file "$2" --tls-key-file "$2"; }
mosquitto_client() { ask_mosquitto "$2" "$3" --cafile "$4" --insecure; }
mosquitto_server() { mosquitto_with "$1" "$5" "certfile $2" "keyfile $2"; }

# --- what is behind the relay: port and directory of a server, port and mark of a client ----------------------

behind_postgresql_client() { postgresql "$1" "$2"; }
behind_postgresql_server() { ask_postgresql "$1" "$2" sslmode=disable; }
behind_mariadb_client() { mariadb "$1" "$2" "$2/../server.pem"; }
behind_mariadb_server() { ask_mariadb "$1" "$2"; }
behind_redis_client() { redis "$2" --port "$1"; }
behind_redis_server() { ask_redis "$1" "$2"; }
behind_mosquitto_client() { mosquitto_with "$1" "$2"; }
behind_mosquitto_server() { ask_mosquitto "$1" "$2"; }

# --- both ----------------------------------------------------------------------------------------------------

# As a user without rights, which PostgreSQL insists on: PORT DIRECTORY SETTINGS…
postgresql() {
    port=$1
    cd "$2"
    cp ../server.pem pem
    chmod 600 pem
    chown -R 65534:65534 .
    shift 2
    bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
    as_nobody='setpriv --reuid=65534 --regid=65534 --clear-groups --'
    $as_nobody "$bin/initdb" -D data -U live -A trust --no-sync >/dev/null
    exec $as_nobody "$bin/postgres" -D data -k '' -F -c listen_addresses=127.0.0.1 -p "$port" "$@"
}

ask_postgresql() {
    psql -X -A -t -c "SELECT 'one for $2'" -c "SELECT 'two for $2'" -c "SELECT repeat('$2,', 10000)" \
        "host=127.0.0.1 port=$1 user=live dbname=postgres $3"
}

# PORT DIRECTORY CERTIFICATE
mariadb() {
    mkdir "$2/data"
    exec mariadbd --no-defaults --user=root --datadir="$2/data" --skip-grant-tables --bind-address=127.0.0.1 \
        --port="$1" --socket="$2/socket" --pid-file="$2/pid" --ssl-cert="$3" --ssl-key="$3"
}

ask_mariadb() {
    command mariadb --no-defaults --ssl --protocol=tcp -h 127.0.0.1 -P "$1" -u root -N -B \
        -e "SELECT 'one for $2'; SELECT 'two for $2'; SELECT repeat('$2,', 10000)"
}

# DIRECTORY SETTINGS… Debian's tools for Redis have the server too: it goes by the name that it is called by.
redis() {
    cd "$1"
    shift
    ln -s "$(command -v redis-check-rdb)" redis-server
    exec ./redis-server --bind 127.0.0.1 --save '' "$@"
}

# PORT MARK OPTIONS…
ask_redis() {
    port=$1 mark=$2
    shift 2
    set -- redis-cli -h 127.0.0.1 -p "$port" "$@"
    "$@" SET "apples-$mark" "first of $mark"
    "$@" GET "apples-$mark"
    "$@" APPEND "apples-$mark" ", second of $mark"
}

# PORT DIRECTORY LINE…
mosquitto_with() {
    printf '%s\n' "listener $1 127.0.0.1" 'allow_anonymous true' 'user root' >"$2/settings"
    settings=$2/settings
    shift 2
    if [ $# != 0 ]; then printf '%s\n' "$@" >>"$settings"; fi
    exec mosquitto -c "$settings"
}

# PORT MARK OPTIONS…
ask_mosquitto() {
    port=$1 mark=$2
    shift 2
    for number in first second third; do
        mosquitto_pub -h 127.0.0.1 -p "$port" "$@" -t "$mark/$number" -m "$number of $mark" -q 1 -r
    done
    mosquitto_sub -h 127.0.0.1 -p "$port" "$@" -t "$mark/#" -C 3
}

"$@"
