"""jobs/report.py on an output in S3: tables, label sets, pictures and the page itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from real_parts import ROOT, Job, Store, clean_environment, client, upload


def python(job: str, *arguments: str, store: Store) -> str:
    command = [sys.executable, str(ROOT / "jobs" / job), *arguments]
    environment = clean_environment(**store.environment)
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_night_in_s3(rclone: Store, archives: Path, job: Job) -> None:
    """Scored from tars, calibrated, labelled and reported there: every anomaly with its picture, out of its shard."""
    output = "s3://bucket/report"
    upload(rclone, archives / "webdataset", "bucket/report-archive")
    job("--input", "s3://bucket/report-archive", "--output", output, "--run-id", "r", **rclone.environment)
    table = f"{output}/thresholds.parquet"
    options = ("--output", output, "--image-rate", "0.5", "--pixel-rule", "none", "--min-images", "4", "--save", table)
    python("calibrate.py", *options, store=rclone)
    python("label.py", "--output", output, "--label-set", "half", "--thresholds", table, store=rclone)
    told = python("report.py", "--output", output, "--label-set", "half", store=rclone)
    assert "labels: label set half" in told
    assert f"Page: {output}/reports/r@half.html" in told
    page = client(rclone).cat_file("bucket/report/reports/r@half.html").decode()
    assert "No picture" not in page
    assert page.count('alt="the picture"') == page.count('src="data:image/webp') / 2 > 8
    assert "calibrated on" in page
    assert "testsecret" not in page
