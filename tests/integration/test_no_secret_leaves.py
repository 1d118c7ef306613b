"""Secrets of a run (keys in the environment, signatures and passwords in addresses) are in nothing that comes out."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from real_parts import KEYS, Job, Store, free_port

from jobs.exits import FAILED, WRONG_USE
from jobs.score import Options, main

CANARY = "CANARY"  # in every secret but the store's own
SECRETS = (KEYS[1].encode(), CANARY.encode())
SURROUNDINGS = {
    "AZURE_STORAGE_KEY": f"{CANARY}azurekey",
    "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={CANARY}azure",
    "GOOGLE_API_KEY": f"{CANARY}google",
    "HF_TOKEN": f"hf_{CANARY}",
    "RAY_AUTH_TOKEN": f"{CANARY}ray".ljust(64, "0"),
}
SIGNED = [  # of S3 (versions 4 and 2), Google, Azure, CloudFront
    f"X-Amz-Credential={CANARY}&X-Amz-Signature={CANARY}&X-Amz-Security-Token={CANARY}",
    f"AWSAccessKeyId={CANARY}&Signature={CANARY}&Expires=1",
    f"X-Goog-Credential={CANARY}&X-Goog-Signature={CANARY}",
    f"sv=2024&se=2030&sig={CANARY}",
    f"Policy={CANARY}&Signature={CANARY}&Key-Pair-Id={CANARY}",
]


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A place of its own for Ray's logs; its path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="c", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def web(archives: Path) -> Iterator[str]:
    """A web server with the pictures."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(archives / "images/images"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def leaks_in(name: str, data: bytes) -> list[str]:
    """Where a secret stands, with some of what is around it."""
    at = [data.find(secret) for secret in SECRETS]
    return [f"{name}: {data[max(0, start - 150) : start + 40]!r}" for start in at if start >= 0]


def content_of(path: str, data: bytes) -> bytes:
    """A file's bytes; of a Parquet file also its footer and every cell, uncompressed."""
    if not path.endswith(".parquet"):
        return data
    file = pq.ParquetFile(io.BytesIO(data))
    return data + repr(file.read().to_pylist()).encode() + repr(file.metadata.metadata).encode()


def leaks_below(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files, "nothing was looked at"
    return [leak for path in files for leak in leaks_in(str(path), content_of(path.name, path.read_bytes()))]


def test_the_search_finds(tmp_path: Path) -> None:
    """A secret in a log, in a compressed cell, in a file's own notes."""
    (tmp_path / "a.log").write_text(f"x {CANARY}")
    cells = pa.table({"a": [CANARY] * 1000})
    notes = pa.table({"a": [1]}, pa.schema([("a", pa.int64())], metadata={"note": CANARY}))
    for name, table in (("cells", cells), ("notes", notes)):
        pq.write_table(table, tmp_path / f"{name}.parquet", compression="zstd")
    assert len(leaks_below(tmp_path)) == 3


def leaks_of(done: subprocess.CompletedProcess[str], ray_folder: Path) -> list[str]:
    """In what a job printed, and in what Ray wrote down of it."""
    printed = leaks_in("stdout", done.stdout.encode()) + leaks_in("stderr", done.stderr.encode())
    return printed + leaks_below(ray_folder)


def manifest_of(archives: Path, web: str) -> bytes:
    """Pictures behind signed addresses, some of which are not there, and rows that are refused."""
    pictures = sorted((archives / "images/images").rglob("*.png"))[: len(SIGNED)]
    there = [
        f"{path.relative_to(archives / 'images/images')}?{query}" for path, query in zip(pictures, SIGNED, strict=True)
    ]
    absent = [f"absent{number}.png?{query}" for number, query in enumerate(SIGNED)]
    uris = [f"http://{web}/{path}" for path in there + absent]
    uris += [f"http://127.0.0.1:{free_port()}/x.png?{SIGNED[0]}"]  # nobody answers
    uris += [f"http://user:{CANARY}@{web}/x.png", f"s3://key:{CANARY}@bucket/x.png", f"s3://bucket/no.png?{SIGNED[0]}"]
    out = io.BytesIO()
    pq.write_table(pa.table({"uri": uris}), out)
    return out.getvalue()


@pytest.mark.timeout(400)
def test_a_run_on_s3(rclone: Store, archives: Path, web: str, job: Job, ray_folder: Path, tmp_path: Path) -> None:
    """Not in what is printed, the tables and their footers, the record, the contact sheet, nor Ray's logs."""
    config = {"request_checksum_calculation": "when_required"}
    fs = s3fs.S3FileSystem(key=KEYS[0], secret=KEYS[1], endpoint_url=rclone.endpoint, config_kwargs=config)
    fs.pipe_file("bucket/secrets/manifest.parquet", manifest_of(archives, web))
    places = ["--input", "s3://bucket/secrets/manifest.parquet", "--output", "s3://bucket/secrets/out"]
    options = ["--run-id", "r", "--max-error-fraction", "1", "--top", "5"]
    environment = rclone.environment | SURROUNDINGS | {"RAY_TMPDIR": str(ray_folder)}
    assert leaks_of(job(*places, *options, **environment), ray_folder) == []
    fs.get("bucket/secrets/out", str(tmp_path / "out"), recursive=True)
    assert leaks_below(tmp_path / "out") == []
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert {"r.json", "r.png"} <= names


WRONG_KEYS = {"AWS_SECRET_ACCESS_KEY": f"{CANARY}wrong", "AWS_SESSION_TOKEN": f"{CANARY}session"}
NOBODY_THERE = {"AWS_ENDPOINT_URL": f"http://user:{CANARY}@127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}


@pytest.mark.parametrize(
    ("source", "output", "change"),
    [
        ("{images}", "s3://bucket/stopped", WRONG_KEYS),
        ("{images}", "s3://bucket/stopped", NOBODY_THERE),
        ("s3://bucket/stopped", "{out}", WRONG_KEYS),
        ("http://{web}/absent.csv?" + SIGNED[0], "{out}", {}),
    ],
    ids=["output-refused", "output-unreachable", "input-refused", "input-absent"],
)
def test_a_run_that_is_stopped(
    source: str, output: str, change: dict[str, str], rclone: Store, archives: Path, web: str, job: Job,
    ray_folder: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """Wrong keys, a password in an endpoint where nobody answers, a signed address of nothing: one error, no secret."""
    environment = rclone.environment | SURROUNDINGS | {"RAY_TMPDIR": str(ray_folder)} | change
    places = {"images": archives / "images/images", "web": web, "out": tmp_path / "out"}
    done = job("--input", source.format(**places), "--output", output.format(**places), check=False, **environment)
    (ray_folder / "looked-at").touch()  # where Ray was not even started
    assert done.returncode in (FAILED, WRONG_USE), done.stderr
    assert done.stderr.count("error: ") == 1
    assert leaks_of(done, ray_folder) == []


def told_of(flag: str, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """(exit code, what is printed) of the job, given an address by a flag."""
    given = {"input": (str(tmp_path),), "output": str(tmp_path / "out"), "run_id": "r"}
    code = main(Options(**given | {flag: (address,) if flag == "input" else address}))
    told = capsys.readouterr()
    return code, told.out + told.err


@pytest.mark.parametrize("flag", ["input", "output", "model", "thresholds", "clip_weights", "table"])
def test_a_password_in_an_address_is_wrong_use(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever flag has it, before anything is asked of anybody."""
    code, told = told_of(flag, f"s3://key:{CANARY}@bucket/x", tmp_path, capsys)
    assert (code, leaks_in("told", told.encode())) == (WRONG_USE, [])


@pytest.mark.parametrize("query", SIGNED)
@pytest.mark.parametrize("flag", ["output", "model", "thresholds", "clip_weights"])
def test_a_signed_address_of_nothing(
    flag: str, query: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error does not repeat the signature."""
    monkeypatch.setattr(time, "sleep", lambda _: None)  # nobody will answer at the fourth try either
    code, told = told_of(flag, f"http://127.0.0.1:{free_port()}/x?{query}", tmp_path, capsys)
    assert code in (FAILED, WRONG_USE)
    assert told.startswith("error: ")
    assert leaks_in("told", told.encode()) == []
