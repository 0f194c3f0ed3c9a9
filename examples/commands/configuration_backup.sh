#!/bin/sh
# Reads the variables as JSON and keeps them encrypted.
set -eu
umask 077
"$DRILL_PYTHON" "$(dirname "$0")/age.py" encrypt > "$DRILL_BACKUP/environment.json.age"
