#!/bin/bash
# The report on one night that is committed, whatever jobs/score.py ended with: too many bad images, a catalog that did not
# take it. What the other scripts here call:  deploy/report_night.sh CODE OUTPUT NIGHT
# It ends with CODE; with 4 where that is 0 and there is no report. From the environment: PYTHON.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
code=$1 output=$2 night=$3 PYTHON=${PYTHON:-python}

committed() {
  "$PYTHON" jobs/runs.py show "$night" --output "$output" --json 2>/dev/null | grep '"status": "committed"' >/dev/null
}
case $code in
  0 | 3) ;; # as the code says
  *) committed || exit "$code" ;;
esac
"$PYTHON" jobs/report.py --output "$output" --run-id "$night" && exit "$code"
echo "$night is committed, and there is no report on it"
[ "$code" -eq 0 ] && exit 4
exit "$code"
