#!/bin/bash
# One night on a Ray cluster that stands: score, then report. In the image, what rayjob.yaml has as its entrypoint:
#   bash deploy/kuberay/night.sh NIGHT OUTPUT [MORE OPTIONS OF jobs/score.py …]
# It ends as deploy/report_night.sh does.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
night=$1 output=$2
shift 2
python jobs/score.py --run-id "$night" --incremental --output "$output" "$@"
exec bash deploy/report_night.sh "$?" "$output" "$night"
