"""Tables and records from anybody: reading them runs nothing, and they lead nowhere else."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.attempt import find_or_make_plan
from pipeline.config import ScoreConfig
from pipeline.decode import DecodeRules, ImageRejected, decode_image
from pipeline.errors import InputError
from pipeline.layout import RunLayout
from pipeline.plan import metadata_types
from pipeline.read import fetch
from pipeline.request import Request
from pipeline.runs import open_run
from pipeline.schema import RUN_FORMAT, Reason
from pipeline.sources import recognise
from pipeline.sources.manifest import manifest_items
from pipeline.storage import open_root
from pipeline.thresholds import read_thresholds


class Malicious:
    """Touches a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def poisoned(columns: dict[str, list[Any]], payload: bytes, path: Path) -> str:
    """A Parquet file whose every column, and whose own notes, carry a pickle where older readers looked for one."""
    for_arrow = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": payload}
    arrays = [pa.array(values) for values in columns.values()]
    fields = [pa.field(name, array.type, metadata=for_arrow) for name, array in zip(columns, arrays, strict=True)]
    notes = {"pandas": payload, "cops": payload, "PANDAS": payload}
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=notes)), path)
    return str(path)


def test_no_pickle_in_a_table_runs(tmp_path: Path) -> None:
    """Thresholds, and a manifest with a kept column: the values are read, as the plain types they are stored in."""
    target = tmp_path / "touched"
    payload = pickle.dumps(Malicious(target))
    columns = {"model_id": ["m"], "category": ["c"], "image_threshold": [0.5], "pixel_threshold": [0.25]}
    found = read_thresholds(poisoned(columns, payload, tmp_path / "t.parquet"), "m")
    assert found.of({"category": "c"}).image == 0.5

    manifest = poisoned({"uri": ["a.jpg"], "line": ["l"]}, payload, tmp_path / "m.parquet")
    config = ScoreConfig(inputs=(manifest,), keep_columns=("line",), run_id="r")
    assert metadata_types(config, [recognise(manifest)]) == {"line": pa.string()}
    (item,) = manifest_items(open_root(str(tmp_path)), manifest, wanted_fields=["line"])
    assert item.fields["line"] == "l"
    assert not target.exists()
    pickle.loads(payload)
    assert target.exists()  # it would have shown


@pytest.mark.parametrize(
    "uri",
    [
        "filecache::https://host/x.jpg", "blockcache::s3://b/x.jpg", "reference::/tmp/refs.json", "dir::file:///etc",
        "tar://x.jpg::/etc/a.tar", "libarchive://x::/etc/a.7z", "data:image/png;base64,AAAA", "hdfs://host/x.jpg",
        "sftp://host/x.jpg", "smb://host/x.jpg", "git://path:repo@ref/x.jpg", "github://o:r@main/x", "hf://d/x.jpg",
        "dask://x", "arrow_hdfs://x", "jupyter://h/x", "webhdfs://h/x", "dbfs://x", "root://h/x", "FILE:///etc/x",
        "file\n:///etc/x", "s3://bucket/x::file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_a_manifest_may_not_reach(tmp_path: Path, uri: str) -> None:
    """Every other protocol and every chain; what only looks like one is the name of a file beside the manifest."""
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"uri": uri}))
    (item,) = manifest_items(open_root(str(tmp_path)), str(path), wanted_fields=[])
    is_a_name = item.bad is None and item.path.startswith(f"{tmp_path}/")
    assert is_a_name or (item.bad is not None and item.bad.reason == Reason.BAD_URI)


@pytest.mark.parametrize("path", ["/proc/self/environ", "/etc/passwd", "/proc/self/mem", "/dev/zero", "/etc"])
def test_no_content_of_a_file_that_is_no_picture_is_told(path: str) -> None:
    """A manifest may name any file that the user may read; what comes of it says nothing of what is in it."""
    (found,) = fetch([Request("file", path)], max_bytes=2**20)
    if isinstance(found, bytes):
        with pytest.raises(ImageRejected) as rejected:
            decode_image(found, DecodeRules())
        found = rejected.value
    assert "root" not in str(found)
    assert "PATH" not in str(found)


@pytest.mark.parametrize("name", ["../../elsewhere.parquet", "scores/../../elsewhere.parquet", "/elsewhere.parquet"])
def test_a_record_names_only_files_of_its_own(tmp_path: Path, name: str) -> None:
    """Whoever may write a record leads its readers to no table beside the output."""
    output = tmp_path / "a" / "out"
    for place in (tmp_path / "elsewhere.parquet", tmp_path / "a" / "elsewhere.parquet"):
        place.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"secret": ["x"]}), place)
    files = [{"table": "scores", "path": name, "rows": 1, "num_bytes": 1}]
    record = {"format": RUN_FORMAT, "run_id": "r", "committed_at": "2026", "files": files}
    layout = RunLayout.at(str(output), "r")
    layout.write_json(layout.commit_path, record)
    with pytest.raises(InputError, match=r"elsewhere\.parquet"):
        open_run(str(output), "r")


def test_a_plan_names_only_files_of_its_own(tmp_path: Path) -> None:
    """A run that is resumed scores what lies below its output, not another's plan."""
    layout = RunLayout.at(str(tmp_path / "out"), "r")
    layout.write_json(layout.work_path("plan.json"), {"identity": {}, "files": ["runs/r/../../../plan.parquet"]})
    config = ScoreConfig(inputs=(str(tmp_path),), run_id="r")
    with pytest.raises(InputError, match=r"plan\.parquet.*outside"):
        find_or_make_plan(config, layout, card=None, identity={}, check=lambda _: None)  # type: ignore[arg-type]


def test_a_name_that_is_no_utf8_is_kept_in_json(tmp_path: Path) -> None:
    """In a plan or record, as an ignored file's ending or an input: it neither stops the run nor is changed."""
    layout = RunLayout.at(str(tmp_path), "r")
    value = {"ignored": {os.fsdecode(b".\xff\x1b"): 1}, "input": os.fsdecode(b"/d\xe9"), "text": "é\\udcff"}
    layout.write_json(layout.commit_path, value)
    assert layout.read_json(layout.commit_path) == value
