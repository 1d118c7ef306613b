#!/bin/bash
# One night on AWS: start the cluster of cluster.yaml, score, take it down again whatever became of it, report. From a
# checkout, on a machine whose role may start it (docs/nightly.md). Everything given to it goes to jobs/score.py:
#   deploy/aws/night.sh --input s3://BUCKET/archive --output s3://BUCKET/inspection --device cuda --actors 1:8
# From the environment: CLUSTER, a filled-in cluster.yaml; LOGS; TRIES; PORT for the way to the head; BIN; PAUSE_S between
# looks and tries; PATIENCE_S with a head that does not answer.
# It ends with what jobs/score.py ended with (docs/operations.md), 4 where all but the report is done, 75 where another night
# still goes on.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
CLUSTER=${CLUSTER:-cluster.yaml} LOGS=${LOGS:-$HOME/cops-logs} TRIES=${TRIES:-3} PORT=${PORT:-8265} BIN=${BIN:-.venv/bin}
PAUSE_S=${PAUSE_S:-60} PATIENCE_S=${PATIENCE_S:-1800}
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
command -v "$BIN/ray" >/dev/null || { echo "there is no $BIN/ray: make setup" >&2; exit 2; }
output='' before=''
for word in "$@"; do
  case $word in --output=*) output=${word#*=} ;; esac
  [ "$before" = --output ] && output=$word
  before=$word
done
[ -n "$output" ] || { echo "expected --output, the root of the tables: an URI" >&2; exit 2; }
night=night-$(date -d '12 hours ago' +%F)
mkdir -p "$LOGS" || exit 2
exec 9>"$LOGS/lock"
flock --nonblock 9 || { echo "another night still goes on; $night is left out" >&2; exit 75; }
log=$LOGS/$night.log
say() { printf '%s %s\n' "$(date '+%F %T %Z')" "$*" | tee -a "$log" >&2; }

"$BIN/python" deploy/lint.py "$CLUSTER" >>"$log" 2>&1 || { say "$CLUSTER is not as it should be: see $log"; exit 2; }
[ -s "$HOME/.ray/auth_token" ] || { say "no token: ray get-auth-token --generate"; exit 2; }

# What runs beside this script has a group of its own, so that the ssh behind it ends with it.
tunnel='' shower=''
end_group() { [ -z "$1" ] || kill -- "-$1" 2>/dev/null; }
pause() { sleep "$PAUSE_S" 9>&- & wait "$!"; } # a signal would wait for the end of a sleep in the foreground
down() {
  trap - EXIT
  trap '' INT TERM # nobody comes between it and its end
  end_group "$shower"
  end_group "$tunnel"
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
  end_group "$tunnel"
  setsid "$BIN/ray" dashboard --port "$PORT" "$CLUSTER" >>"$log" 2>&1 9>&- &
  tunnel=$!
  for _ in $(seq 240); do
    (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null && return 0
    sleep 0.5
  done
  return 1
}
ray_job() { timeout 600 "$BIN/ray" job "$1" --address "http://127.0.0.1:$PORT" "${@:2}" 9>&-; }

# The job's log into this night's. Nothing hangs on it: a stream that breaks says nothing of the job.
show_log() {
  end_group "$shower"
  setsid "$BIN/ray" job logs --follow --address "http://127.0.0.1:$PORT" "$1" >>"$log" 2>&1 9>&- &
  shower=$!
}

# What Ray says of a job, into `told`; 1 where nobody answers. Ray's own exit code is 0 for a job that failed.
ask() {
  told=$(ray_job status "$1" 2>&1)
  case $told in
    *"Job '$1' succeeded"* | *"Job '$1' was stopped"* | *"Job '$1' failed"*) return 0 ;;
    *"Status for job '$1'"* | *"$1 does not exist"*) return 0 ;;
  esac
  return 1
}

# Wait for a job's end, by a new way where the old one is gone, and never by a second job. What the job ended with into
# `code`; `lost` where the head has not answered for PATIENCE_S.
follow() {
  local answered=$SECONDS
  code=1
  show_log "$1"
  while true; do
    if ask "$1"; then
      answered=$SECONDS
      case $told in
        *"Job '$1' succeeded"*) code=0 && return ;;
        *"Job '$1' was stopped"*) code=130 && return ;;
        *"Job '$1' failed"*)
          code=$(sed -n 's/.*entrypoint command failed with exit code \([0-9][0-9]*\).*/\1/p' <<<"$told" | head -n 1)
          code=${code:-1}
          return
          ;;
        *"$1 does not exist"*) return ;;
      esac
    elif [ $((SECONDS - answered)) -ge "$PATIENCE_S" ]; then
      say "$1: the head has not answered for $PATIENCE_S s"
      lost=yes
      return
    else
      open_tunnel && show_log "$1"
    fi
    pause
  done
}

commit=$(git rev-parse HEAD 2>/dev/null)
code=1 lost='' told='' started=$(date +%H%M%S) # a name that no job of an earlier start has
for try in $(seq "$TRIES"); do
  if open_tunnel; then
    # Whether it arrived is asked of the head, whatever became of the answer.
    ray_job submit --submission-id "$night-$started-$try" --no-wait --working-dir . \
      --runtime-env-json "{\"env_vars\": {\"COPS_GIT_COMMIT\": \"$commit\"}}" \
      -- python jobs/score.py --run-id "$night" --incremental --top 0 "$@" >>"$log" 2>&1
    follow "$night-$started-$try"
    for _ in 1 2 3 4 5; do kill -0 "$shower" 2>/dev/null || break; sleep 1; done # the log's last lines
    printf '%s\n' "$told" >>"$log"
  fi
  case $code in 0 | 2 | 3 | 130) break ;; esac
  say "$night: try $try of $TRIES ended with $code"
  [ -n "$lost" ] && break # a second job would meet the first one's claim
  [ "$try" -lt "$TRIES" ] && pause
done
down # a report needs no cluster
trap - INT TERM
PYTHON=$BIN/python deploy/report_night.sh "$code" "$output" "$night" >>"$log" 2>&1 9>&-
code=$?
[ "$code" -eq 0 ] || say "$night ended with $code: see $log"
exit "$code"
