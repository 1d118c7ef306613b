"""jobs/export.py: exit codes, what it prints, and that wrong use is one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import tyro
from export_making import NO_LABELS, blob, commit_rows, marked, pictured

from jobs import export
from jobs.exits import DONE, FAILED, INTERRUPTED, TOO_MANY_BAD, WRONG_USE
from jobs.export import Choice, Coco, FromReview, LabelStudio, Naming, Pictures, main
from pipeline.layout import RunLayout

# pycocotools hands NumPy an object of an older protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SPOT = blob(20, 30, (1, 2, 3, 4), (10, 20, 5, 6))


@pytest.fixture
def choice(tmp_path: Path) -> Choice:
    rows = [pictured(tmp_path / "in", "a.png", SPOT), pictured(tmp_path / "in", "b.png", blob(20, 30))]
    rows.append(pictured(tmp_path / "in", "c\x1b[2J.png", SPOT, **NO_LABELS))
    output = commit_rows(RunLayout.at(str(tmp_path / "out"), "r1"), *rows)
    return Choice(output=output)


def test_coco(choice: Choice, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, what file names are relative to, the files; and that some images have no mask."""
    files = {"save": str(tmp_path / "c.json"), "results": str(tmp_path / "r.json")}
    assert main(Coco(**files, choice=choice)) == DONE
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "Run r1: 3 images, 2 annotations."
    assert told[1].startswith("1 images have no mask")
    assert told[2:] == [f"File names are relative to {tmp_path}/in/", *files.values()]
    assert len(json.loads((tmp_path / "r.json").read_text())) == 2


def test_label_studio(choice: Choice, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The setup beside the tasks, and where Label Studio is to look."""
    assert main(LabelStudio(save=str(tmp_path / "t.json"), choice=choice)) == DONE
    told = capsys.readouterr().out
    assert f"{tmp_path}/t.json\n{tmp_path}/t.xml\n" in told
    assert f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={tmp_path} and a local storage\nfor {tmp_path}/in in" in told
    assert main(LabelStudio(save=str(tmp_path / "t.json"), url_prefix="https://h/", choice=choice)) == DONE
    assert "DOCUMENT_ROOT" not in capsys.readouterr().out


def test_pictures(choice: Choice, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 where some cannot be drawn, and the first of them by name, which moves no cursor."""
    assert main(Pictures(save=str(tmp_path / "o"), choice=choice)) == DONE
    assert "Run r1: 3 overlays in " in (told := capsys.readouterr().out)
    assert "colours from 0 to 0.5" in told
    (tmp_path / "in/c\x1b[2J.png").unlink()
    assert main(Pictures(save=str(tmp_path / "o"), what="original", choice=choice)) == TOO_MANY_BAD
    told = capsys.readouterr().out
    assert "1 images have none" in told
    assert "c\\x1b[2J.png: not_found" in told
    assert "\x1b" not in told


def test_reviewed(choice: Choice, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What people found, and what is left out of it."""
    main(Coco(save=str(tmp_path / "c.json"), choice=choice))
    document = json.loads((tmp_path / "c.json").read_text())
    document["images"].append(document["images"][0] | {"id": 9, "file_name": "x\x1b.png", "image_id": None})
    document["images"].append(document["images"][1] | {"id": 10})
    document["categories"].append({"id": 2, "name": "out\x1bline"})
    document["annotations"].append(document["annotations"][0] | {"image_id": 2, "category_id": 2})
    (tmp_path / "c.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert main(FromReview(source=str(tmp_path / "c.json"), save=str(tmp_path / "r.csv"), choice=choice)) == DONE
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "Run r1: 1 images were found anomalous, 2 normal."
    assert told[1] == "1 images are in the file more than once: of COCO all shapes count, else the last change."
    assert told[2] == "Shapes of other labels are left out; --labels takes them: out\\x1bline (1)"
    assert told[3] == "1 reviewed pictures are not among the chosen images; the first: x\\x1b.png"
    assert told[4] == str(tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("options", "naming", "words"),
    [
        ({"output": "{nowhere}"}, {}, "no committed run"),
        ({"run_id": "../r1"}, {}, "--run-id: expected letters"),
        ({"run_id": "r2"}, {}, "has no record"),
        ({"where": "pred_label = 1 ;"}, {}, "--where"),
        ({"where": "\x1b[2J"}, {}, "--where"),
        ({"limit": 0}, {}, "--limit"),
        ({"label_set": "x"}, {}, "no label set 'x'"),
        ({}, {"relative_to": "/elsewhere"}, "--relative-to"),
        ({}, {"relative_to": "s3://key:secret@bucket/x"}, "carries credentials"),
        ({"where": "image_id = 'c\x1b[2J.png'"}, {}, "none of its 1 images has a mask"),
    ],
)
def test_wrong_use(
    choice: Choice, tmp_path: Path, options: Any, naming: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says what was expected and what came; exit code 2, and no file."""
    if "output" in options:
        options = {"output": options["output"].format(nowhere=tmp_path / "nowhere")}
    chosen = Choice(**(vars(choice) | options))
    assert main(Coco(save=str(tmp_path / "c.json"), choice=chosen, naming=Naming(**naming))) == WRONG_USE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert "secret" not in line
    assert "\x1b" not in line
    assert not (tmp_path / "c.json").exists()


def test_what_the_world_does_is_one_line(
    choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk is exit code 1, Ctrl-C 130; neither leaves a file."""

    def fails(error: BaseException) -> Any:
        def raises(*_: Any, **__: Any) -> None:
            raise error

        return raises

    command = Coco(save=str(tmp_path / "c.json"), choice=choice)
    monkeypatch.setattr("pipeline.export.coco.parts_of", fails(OSError(28, "No space left on device")))
    assert main(command) == FAILED
    assert capsys.readouterr().err.startswith("error: the export stopped: OSError")
    monkeypatch.setattr("pipeline.export.coco.parts_of", fails(KeyboardInterrupt()))
    assert main(command) == INTERRUPTED
    assert not list(tmp_path.glob("*c.json*"))


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (
            ["coco", "--output", "o", "--where", "pred_label = 1", "--save", "c.json"],
            Coco(save="c.json", choice=Choice(output="o", where="pred_label = 1")),
        ),
        (
            ["label-studio", "--label-set", "tight", "--pictures", "set", "--save", "t.json"],
            LabelStudio(save="t.json", choice=Choice(label_set="tight"), naming=Naming(pictures="set")),
        ),
        (
            ["pictures", "--what", "mask", "--order-by", "pred_score DESC", "--limit", "20", "--save", "m"],
            Pictures(save="m", what="mask", choice=Choice(order_by="pred_score DESC", limit=20)),
        ),
        (["reviewed", "--from", "c.json", "--save", "r.csv"], FromReview(source="c.json", save="r.csv")),
        (
            ["reviewed", "--from", "c.json", "--save", "r.csv", "--labels", "scratch", "dent"],
            FromReview(source="c.json", save="r.csv", labels=("scratch", "dent")),
        ),
    ],
)
def test_the_command_line(arguments: list[str], command: Any) -> None:
    """As docs/export.md gives it."""
    assert tyro.cli(export.Command, args=arguments) == command


def test_a_mask_of_another_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged table is wrong use, and its image is named."""
    output = commit_rows(RunLayout.at(str(tmp_path / "out"), "r1"), marked("a", SPOT, height=21))
    assert main(Coco(save=str(tmp_path / "c.json"), choice=Choice(output=output))) == WRONG_USE
    assert "/in/a.png: its row in the table is damaged: a mask of [20, 30]" in capsys.readouterr().err
