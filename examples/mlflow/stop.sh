#!/bin/sh
# stop.sh DIRECTORY: ends MLflow at once, without letting it finish, and returns when it is gone.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
directory=$(cd "$1" && pwd -P)
. "$here/daemon.sh"

halt tracking KILL
