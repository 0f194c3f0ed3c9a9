#!/bin/sh
# Backs a running deployment up, loses it and restores it, with the tools and flags of the drill and nothing around
# them. Prints one line per stage: its name, a tab, its nanoseconds. Stages whose name begins with a space lie inside
# the one that follows; "apart" is no part of the measured path. Addresses, directories and secrets come from the
# environment, made by benchmarks/bare.py. What it ran is written to the file $RAN, to be held against the drill's.
set -euf
umask 077

now() { date +%s%N; }
stage() { end=$(now); printf '%s\t%s\n' "$1" "$((end - began))"; began=$end; }
part() { printf ' %s\t%s\n' "$1" "$(($(now) - since))"; since=$(now); }
python() { "$PYTHON" -I -S "$@"; } # nothing of what it is used for here needs the start-up of site-packages
age() { python -c '
import os, sys
sys.path.append(os.environ["SITE"])
from pyrage import decrypt, encrypt, x25519
for path in sys.argv[2:]:
    if sys.argv[1] == "encrypt":
        recipient = x25519.Recipient.from_str(os.environ["AGE_RECIPIENT"])
        open(path + ".age", "wb").write(encrypt(open(path, "rb").read(), [recipient]))
    else:
        identity = x25519.Identity.from_str(os.environ["AGE_IDENTITY"])
        open(path.removesuffix(".age"), "wb").write(decrypt(open(path, "rb").read(), [identity]))
' "$@"; }
# One line for each command, its words separated by tabs, as the drill's journal has them.
run() { { printf '%s\t' "$@"; echo; } >> "$RAN"; "$@"; }
# From where, to where, in how many tries, and what else.
copy() { from=$1 to=$2 tries=$3; shift 3
    run "$RCLONE" copy "$from" "$to" --transfers="$((4 * JOBS))" --checkers="$((4 * JOBS))" --retries="$tries" \
        --fast-list --use-server-modtime "$@" --metadata --config=; }
server="--host=$PGHOST --port=$PGPORT --username=$PGUSER --no-password"
started=
clean_up() { for each in $started; do kill -9 "$each" $(cat "/proc/$each/task/$each/children"); done 2>/dev/null || :; }
trap clean_up EXIT

# Back up: the objects, then the database, then of the objects what is new.
began=$(now)
copy "store:$BUCKET" "$BACKUP/objects" 3 --no-traverse --no-check-dest
stage "copy objects"
sleep "$PAUSE_BETWEEN" # as long as the drill waits here for an upload
began=$(now) since=$began
run "$BIN/pg_dump" $server --dbname="$DATABASE" --format=directory --jobs="$JOBS" --compress="$COMPRESSION" \
    --lock-wait-timeout=60s --file="$BACKUP/dump"
run "$BIN/pg_dumpall" $server --globals-only > "$BACKUP/roles.sql"
part "dump database"
copy "store:$BUCKET" "$BACKUP/objects" 3
part "copy objects again"
cp "$ENVIRONMENT_FILE" "$BACKUP/environment"
age encrypt "$BACKUP/roles.sql" "$BACKUP/environment"
rm "$BACKUP/roles.sql" "$BACKUP/environment"
part "encrypt"
stage "back up"
sleep "$PAUSE" # as long as the drill fingerprints and waits here, while the system writes the backup out
began=$(now)

# Lose everything. PostgreSQL's children lead sessions of their own; its shared memory segment outlives it.
recovery=$began
kill -9 $PIDS $(cat "/proc/$POSTMASTER/task/$POSTMASTER/children")
ipcrm -m "$(sed -n '7s/.* //p' "$DATA/postmaster.pid")"
until rm -rf "$DATA" "$OBJECTS" "$HOMES" "$ENVIRONMENT_FILE" 2>/dev/null; do sleep 0.01; done # the killed still write
stage "strike"

# What the servers need to know is in the configuration.
age decrypt "$BACKUP/environment.age" "$BACKUP/roles.sql.age"
mv "$BACKUP/environment" "$ENVIRONMENT_FILE"
set -a
. "$ENVIRONMENT_FILE"
set +a
stage "restore configuration"

mkdir -p "$OBJECTS/$BUCKET" "$DATA"
RCLONE_AUTH_KEY="\"$RCLONE_CONFIG_STORE_ACCESS_KEY_ID,$RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY\",\"$OBJECT_STORAGE_ACCESS_KEY,$OBJECT_STORAGE_SECRET_KEY\"" \
    "$RCLONE" serve s3 --addr "$PGHOST:$OBJECTS_PORT" "$OBJECTS" > "$LOGS/bare-objects" 2>&1 &
started="$started $!"
[ -z "$OWNER" ] || chown "$OWNER:$OWNER" "$DATA" "$PASSWORD_FILE"
cd /
run $UNPRIVILEGED "$BIN/initdb" --pgdata="$DATA" --username="$PGUSER" --pwfile="$PASSWORD_FILE" --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-sync > "$LOGS/bare-initdb"
cat "$SETTINGS" >> "$DATA/postgresql.conf"
cat "$ACCESS" > "$DATA/pg_hba.conf"
$UNPRIVILEGED "$BIN/postgres" -D "$DATA" > "$LOGS/bare-postgres" 2>&1 &
started="$started $!"
until grep -q '^ready' "$DATA/postmaster.pid" 2>/dev/null; do sleep 0.01; done
# A listening socket (state 0A) of that port, in hexadecimal.
until grep -q ":$(printf %04X "$OBJECTS_PORT") 00000000:0000 0A" /proc/net/tcp; do sleep 0.01; done
stage "provision"

# The new server has its superuser already.
sed -i "/^CREATE ROLE $PGUSER;\$/d" "$BACKUP/roles.sql"
export PGOPTIONS="-c log_min_error_statement=panic"
run "$BIN/psql" $server --dbname=postgres --no-psqlrc --quiet --single-transaction --set=ON_ERROR_STOP=1 \
    < "$BACKUP/roles.sql" > "$LOGS/bare-psql"
rm "$BACKUP/roles.sql"
unset PGOPTIONS
run "$BIN/pg_restore" $server --dbname=postgres --create --exit-on-error --jobs="$JOBS" "$BACKUP/dump"
stage "restore database"
copy "$BACKUP/objects" "store:$BUCKET" 1 --no-traverse --no-check-dest
stage "restore objects"

serve() { HOME="$HOMES/$1" "$PYTHON" -m fixtures.refapp "$1" > "$LOGS/bare-$1" 2>&1 & started="$started $!"; }
cp -R "$MODELS" "$HOMES"
for service in ocr llm job web; do serve "$service"; done
python "$CLIENT" ready $SERVICES
python "$CLIENT" transact "$WEB"
stage "start and first transaction"
began=$recovery
stage "recovery"

"$RCLONE" check "$BACKUP/objects" "store:$BUCKET" --download --one-way --checkers=8 --fast-list --config= 2> "$LOGS/bare-check"
stage "apart: rclone check --download"
