#!/bin/sh
# One scheduled drill: drills, holds the evidence against its files, and tells a chat where it did not pass. Arguments are
# pytest's own, such as --profile FILE or --targets standard. Exit code 0 only where the drill passed, its evidence holds
# and, where there was something to tell, it was told.
#   ENPRIVACY_RUNS           where runs are kept, from one drill to the next (reports/runs)
#   ENPRIVACY_DRILL_SECONDS  after how long a drill is ended as one that hangs (3600)
#   ENPRIVACY_LINK           a URL at which the report can be read; {run} in it becomes the run's id
#   ENPRIVACY_WEBHOOK, or ENPRIVACY_WEBHOOK_FILE, a file that holds it: the chat's incoming webhook, a secret
#   ENPRIVACY_EVIDENCE_KEY   the file of the key that signs the evidence
set -eu
cd "$(dirname "$0")/../.."
python=.venv/bin/python
runs=${ENPRIVACY_RUNS:-reports/runs}
began=$(date -u +%Y%m%dT%H%M%SZ)
ended=0

# SIGINT lets pytest tear down, and write its evidence; who does not end by it within two minutes is killed, and aborted.
timeout --signal=INT --kill-after=120 "${ENPRIVACY_DRILL_SECONDS:-3600}" \
	"$python" -m pytest drills -p no:cacheprovider --runs-directory "$runs" "$@" || ended=$?

for newest in "$runs"/2*/; do :; done
"$python" -m reports verify "$newest" || [ "$ended" -ne 0 ] || ended=1

if [ -n "${ENPRIVACY_WEBHOOK:-}${ENPRIVACY_WEBHOOK_FILE:-}" ]; then
	"$python" -m reports notify "$runs" --since "$began" --link "${ENPRIVACY_LINK:-}" || [ "$ended" -ne 0 ] || ended=1
else
	echo "nobody is told: no webhook is set" >&2
fi
exit "$ended"
