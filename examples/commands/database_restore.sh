#!/bin/sh
# The roles, then the database; the first error ends it.
set -eu
umask 077
here=$(dirname "$0")

# The working directory is the run's own and goes with it.
all=$(mktemp ./all.XXXXXXXX)
roles=$(mktemp ./roles.XXXXXXXX)
trap 'rm -f "$all" "$roles"' EXIT
"$DRILL_PYTHON" "$here/age.py" decrypt < "$DRILL_BACKUP/roles.sql.age" > "$all"
# The new server has its superuser already.
grep -vxF "CREATE ROLE $PGUSER;" "$all" > "$roles"
# An error must not bring a password verifier into the server's log.
PGOPTIONS="-c log_min_error_statement=panic" "$DRILL_BIN/psql" --no-password --dbname=postgres --no-psqlrc --quiet \
    --single-transaction --set=ON_ERROR_STOP=1 --file="$roles"

"$DRILL_BIN/pg_restore" --no-password --dbname=postgres --create --exit-on-error --jobs="$DRILL_JOBS" \
    "$DRILL_BACKUP/database.dump"
