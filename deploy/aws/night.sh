#!/bin/bash
# One night on AWS: start the cluster of cluster.yaml, score, take it down again whatever became of it. From a checkout, on
# a machine whose role may start it (docs/nightly.md). Everything given to it goes to jobs/score.py:
#   deploy/aws/night.sh --input s3://BUCKET/archive --output s3://BUCKET/inspection --device cuda --actors 1:8
# From the environment: CLUSTER, a filled-in cluster.yaml; LOGS; TRIES; PORT for the way to the head; BIN.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
CLUSTER=${CLUSTER:-cluster.yaml} LOGS=${LOGS:-$HOME/cops-logs} TRIES=${TRIES:-3} PORT=${PORT:-8265} BIN=${BIN:-.venv/bin}
PAUSE_S=${PAUSE_S:-60}
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
command -v "$BIN/ray" >/dev/null || { echo "there is no $BIN/ray: make setup" >&2; exit 2; }
night=night-$(date -d '12 hours ago' +%F)
mkdir -p "$LOGS" || exit 2
exec 9>"$LOGS/lock"
flock --nonblock 9 || { echo "another night still goes on; $night is left out" >&2; exit 75; }
log=$LOGS/$night.log
say() { printf '%s %s\n' "$(date '+%F %T %Z')" "$*" | tee -a "$log" >&2; }

"$BIN/python" deploy/lint.py "$CLUSTER" >>"$log" 2>&1 || { say "$CLUSTER is not as it should be: see $log"; exit 2; }
[ -s "$HOME/.ray/auth_token" ] || { say "no token: ray get-auth-token --generate"; exit 2; }

tunnel='' job=''
# shellcheck disable=SC2329 # the trap calls it
down() {
  trap - EXIT
  trap '' INT TERM # nobody comes between it and its end
  for process in $job $tunnel; do kill "$process" 2>/dev/null; done
  for _ in 1 2 3; do
    "$BIN/ray" down --yes "$CLUSTER" >>"$log" 2>&1 9>&- && return
    sleep "$PAUSE_S"
  done
  say "ray down failed: machines end themselves 14 hours after they began; look whether they do"
}
trap down EXIT
trap 'say "stopped"; exit 130' INT TERM

"$BIN/ray" up --yes --no-config-cache "$CLUSTER" >>"$log" 2>&1 9>&- || { say "ray up failed: see $log"; exit 1; }

# The way to the dashboard on the head's loopback, through SSH.
open_tunnel() {
  [ -n "$tunnel" ] && kill "$tunnel" 2>/dev/null
  "$BIN/ray" dashboard --port "$PORT" "$CLUSTER" >>"$log" 2>&1 9>&- &
  tunnel=$!
  for _ in $(seq 60); do
    (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null && return 0
    sleep 2
  done
  return 1
}

commit=$(git rev-parse HEAD 2>/dev/null)
code=1
for try in $(seq "$TRIES"); do
  from=$(wc -l <"$log")
  if open_tunnel; then
    "$BIN/ray" job submit --address "http://127.0.0.1:$PORT" --working-dir . \
      --runtime-env-json "{\"env_vars\": {\"COPS_GIT_COMMIT\": \"$commit\"}}" \
      -- python jobs/score.py --run-id "$night" --incremental --top 0 "$@" >>"$log" 2>&1 9>&- &
    job=$!
    wait "$job" # not in the foreground, where a signal would wait for the job's end
    code=$?
    # Ray gives back 1 for whatever fails, and says what it was.
    real=$(tail -n +$((from + 1)) "$log" | sed -n 's/.*failed with exit code \([0-9][0-9]*\).*/\1/p' | tail -n 1)
    [ "$code" -ne 0 ] && code=${real:-1}
  fi
  case $code in 0 | 2 | 3) break ;; esac
  say "$night: try $try of $TRIES ended with $code"
  [ "$try" -lt "$TRIES" ] && sleep "$PAUSE_S"
done
[ "$code" -eq 0 ] || say "$night ended with $code: see $log"
exit "$code"
