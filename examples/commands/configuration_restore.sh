#!/bin/sh
# Prints the variables as JSON.
set -eu
"$DRILL_PYTHON" "$(dirname "$0")/age.py" decrypt < "$DRILL_BACKUP/environment.json.age"
