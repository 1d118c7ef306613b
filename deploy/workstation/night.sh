#!/bin/bash
# One night on one machine: score what is new, then write the report. For cron or systemd; docs/nightly.md tells how.
# From the environment: INPUT and OUTPUT, which must be there; THRESHOLDS, a table of jobs/calibrate.py; SCORE_ARGS, more
# options of jobs/score.py; LOGS, a folder; TRIES and PAUSE_S; PYTHON.
# It ends with what jobs/score.py ended with (docs/operations.md), 4 where all but the report is done, 75 where another night
# still goes on.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
: "${INPUT:?expected the archive: a folder or URI}" "${OUTPUT:?expected the root of the tables: a folder or URI}"
PYTHON=${PYTHON:-.venv/bin/python} LOGS=${LOGS:-$HOME/cops-logs} TRIES=${TRIES:-3} PAUSE_S=${PAUSE_S:-300}
command -v "$PYTHON" >/dev/null || { echo "there is no $PYTHON: make setup" >&2; exit 2; }
read -r -a more <<<"${SCORE_ARGS:-}"

# What starts after midnight, or starts again, belongs to the evening before: one night, one run.
night=night-$(date -d '12 hours ago' +%F)
mkdir -p "$LOGS" || exit 2
exec 9>"$LOGS/lock"
if ! flock --nonblock 9; then
  echo "another night still goes on (it holds $LOGS/lock); $night is left out" >&2
  exit 75
fi
log=$LOGS/$night.log
say() { printf '%s %s\n' "$(date '+%F %T %Z')" "$*" | tee -a "$log" >&2; }

thresholds=()
[ -n "${THRESHOLDS:-}" ] && thresholds=(--thresholds "$THRESHOLDS")
for try in $(seq "$TRIES"); do
  "$PYTHON" jobs/score.py --input "$INPUT" --output "$OUTPUT" --run-id "$night" --incremental \
    "${thresholds[@]}" "${more[@]}" >>"$log" 2>&1 9>&- &
  job=$!
  trap 'kill -TERM "$job"' TERM INT # the job ends in order, and with 130
  wait "$job"
  code=$?
  while kill -0 "$job" 2>/dev/null; do wait "$job"; code=$?; done # a signal ends `wait` before the job
  trap - TERM INT
  [ "$code" -gt 128 ] && [ "$code" -ne 130 ] && say "$night: jobs/score.py was killed by signal $((code - 128))"
  case $code in
    0 | 2 | 3 | 130) break ;; # done, or nothing that another try would cure
  esac
  say "$night: try $try of $TRIES ended with $code"
  [ "$try" -lt "$TRIES" ] && sleep "$PAUSE_S"
done

PYTHON=$PYTHON deploy/report_night.sh "$code" "$OUTPUT" "$night" >>"$log" 2>&1 9>&-
code=$?
find "$LOGS" -name 'night-*.log' -mtime +90 -delete
[ "$code" -eq 0 ] && exit 0
say "$night ended with $code; the last lines of $log:"
tail -n 5 "$log" | head -n 4 >&2
exit "$code"
