#!/bin/sh
# start.sh DIRECTORY: starts MLflow with the environment file application.env of that directory, and returns at once.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
directory=$(cd "$1" && pwd -P)
. "$here/daemon.sh"

# The file is read as containers read theirs: no quotes, no expansion. Nothing of it comes onto a command line.
launch tracking sh -euc '
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in "" | "#"*) ;; *) export "$line" ;; esac
    done < application.env
    exec bin/mlflow server'
