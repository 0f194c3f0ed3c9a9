#!/bin/sh
# remove.sh DIRECTORY: ends what prepare.sh started there, and removes the directory.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
[ -e "$1" ] || exit 0
directory=$(cd "$1" && pwd -P)
[ -f "$directory/profile.env" ] || [ -d "$directory/run" ] || {
    echo "remove.sh: $directory is none of prepare.sh's" >&2
    exit 1
}
. "$here/daemon.sh"

halt_all
rm -rf "$directory"
