#!/bin/sh
# One dump of the database, and the roles that it needs, which hold password verifiers and so are encrypted.
set -eu
umask 077
here=$(dirname "$0")

"$DRILL_BIN/pg_dump" --no-password --format=custom --compress=1 \
    ${DRILL_SNAPSHOT:+--snapshot="$DRILL_SNAPSHOT"} --file="$DRILL_BACKUP/database.dump"

# Not a pipe: sh would not notice that its first program failed.
roles=$(mktemp ./roles.XXXXXXXX)
trap 'rm -f "$roles"' EXIT
"$DRILL_BIN/pg_dumpall" --no-password --globals-only --file="$roles"
"$DRILL_PYTHON" "$here/age.py" encrypt < "$roles" > "$DRILL_BACKUP/roles.sql.age"
