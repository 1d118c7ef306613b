"""Results for other tools: `python jobs/export.py coco | label-studio | pictures | reviewed --output URI --save …`."""

from __future__ import annotations

import posixpath
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__":  # however it is started, `cops` and `pipeline` are found beside `jobs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from cops.errors import CopsError
from cops.shown import shown
from jobs.exits import DONE, INTERRUPTED, TOO_MANY_BAD, fail, stop_on_sigterm
from jobs.logs import log_to_stderr
from pipeline.export import coco, label_studio, pictures, reviewed
from pipeline.export.selection import Selection

if TYPE_CHECKING:
    from pipeline.export.coco import Exported


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which images."""

    output: str = "out/"
    """Root of the tables, as given to jobs/score.py."""

    run_id: str | None = None
    """The run. Default: the one committed last."""

    label_set: str | None = None
    """Labels and masks that jobs/label.py made. Default: the run's own."""

    where: str | None = None
    """Of its images, which: a condition of SQL over the columns of scores, "pred_label = 1 AND line = 'a'"."""

    order_by: str | None = None
    """In which order: "pred_score DESC". Default: by URI."""

    limit: int | None = None
    """The first N of them."""

    def selection(self) -> Selection:
        """Raises:  InputError: an option that cannot be meant."""
        return Selection(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How a tool finds a picture."""

    relative_to: str | None = None
    """File names are relative to this folder. Default: the deepest that holds all images of the run."""

    pictures: str | None = None
    """A folder that `pictures --what original` wrote: file names are those in it. For images in shards and stores."""


@dataclass(frozen=True, kw_only=True)
class Coco:
    """COCO JSON, which FiftyOne, CVAT and pycocotools read: an annotation for each region, as a run-length mask, with
    its peak score. The one COCO category is `anomaly`; an image's own category stands with the image.
    """

    save: str
    """The file. Any fsspec URI."""

    results: str | None = None
    """A second file: the same shapes in COCO's format of results, for COCO.loadRes."""

    per: coco.Per = "region"
    """An annotation for each region, or one for each image that has any, with the image's score."""

    choice: tyro.conf.OmitArgPrefixes[Choice] = field(default_factory=Choice)
    naming: tyro.conf.OmitArgPrefixes[Naming] = field(default_factory=Naming)


@dataclass(frozen=True, kw_only=True)
class LabelStudio:
    """Label Studio tasks with regions and verdict as predictions, and the labelling setup for them, as .xml beside."""

    save: str
    """The tasks, such as tasks.json. Any fsspec URI."""

    shape: label_studio.Shape = "brush"
    """Regions as masks to paint on, or as rectangles."""

    url_prefix: str | None = None
    """Before each file name. Default: Label Studio's own for local files; pictures in stores keep their URIs."""

    choice: tyro.conf.OmitArgPrefixes[Choice] = field(default_factory=Choice)
    naming: tyro.conf.OmitArgPrefixes[Naming] = field(default_factory=Naming)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A PNG for each image, and an index of them, which is a manifest. Exit code 3: some images have none."""

    save: str
    """The folder. Any fsspec URI."""

    what: pictures.What = "overlay"
    """`overlay`: the picture under its anomaly map, its mask outlined; `mask`: white where anomalous; `map`: 16 bits,
    65535 is a score of 1; `original`: the picture as it was scored, upright, 8 bits a colour."""

    vmax: float | None = None
    """The score at the end of the overlays' colours. Default: the run's highest patch score."""

    max_side: int = 2048
    """Larger overlays are reduced to it, px; masks, maps and originals never are."""

    choice: tyro.conf.OmitArgPrefixes[Choice] = field(default_factory=Choice)


@dataclass(frozen=True, kw_only=True)
class FromReview:
    """The way back: what was reviewed in CVAT, FiftyOne or Label Studio, as a manifest with uri, label (0, 1) and
    mask_uri, which jobs/evaluate.py and jobs/score.py read.
    """

    source: Annotated[str, tyro.conf.arg(name="from")]
    """A COCO file, as CVAT and FiftyOne export it, or Label Studio's JSON."""

    save: str
    """The manifest, such as reviewed.csv; masks go into a folder beside it."""

    labels: tuple[str, ...] = (label_studio.LABEL,)
    """Which shapes are of defects, by the tool's labels. Others are counted and left out."""

    choice: tyro.conf.OmitArgPrefixes[Choice] = field(default_factory=Choice)
    naming: tyro.conf.OmitArgPrefixes[Naming] = field(default_factory=Naming)


Command = (
    Annotated[Coco, tyro.conf.subcommand("coco")]
    | Annotated[LabelStudio, tyro.conf.subcommand("label-studio")]
    | Annotated[Pictures, tyro.conf.subcommand("pictures")]
    | Annotated[FromReview, tyro.conf.subcommand("reviewed")]
)


def main(command: Coco | LabelStudio | Pictures | FromReview) -> int:
    from pipeline.failures import as_run_errors  # noqa: PLC0415 -- Ray takes a second: after the options are known

    log_to_stderr()
    stop_on_sigterm()
    try:
        with as_run_errors("The same command may be given again", what="the export stopped"):
            return _do(command)
    except CopsError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command may be given again", file=sys.stderr)
        return INTERRUPTED


def _do(command: Coco | LabelStudio | Pictures | FromReview) -> int:
    selection = command.choice.selection()
    match command:
        case Coco(save=save, results=results, per=per, naming=naming):
            told = coco.export_coco(selection, save, results=results, per=per, **asdict(naming))
            return _exported(told, what="annotations")
        case LabelStudio(save=save, shape=shape, url_prefix=prefix, naming=naming):
            told = label_studio.export_label_studio(selection, save, shape=shape, url_prefix=prefix, **asdict(naming))
            code = _exported(told, what="predicted regions")
            if prefix is None and told.folder.startswith("/"):
                above = shown(posixpath.dirname(told.folder.rstrip("/")))
                print(
                    f"Label Studio finds them with LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={above} and a local storage"
                )
                print(f"for {shown(told.folder.rstrip('/'))} in the project.")
            return code
        case Pictures():
            return _pictures(command, selection)
        case FromReview():
            return _from_review(command, selection)


def _exported(told: Exported, *, what: str) -> int:
    print(f"Run {told.run_id}: {told.images:,} images, {told.shapes:,} {what}.")
    if told.unmarked:
        print(
            f"{told.unmarked:,} images have no mask, as there was no pixel threshold for them; they look like normal."
        )
    print(shown(f"File names are relative to {told.folder}"))
    for path in told.written:
        print(shown(path))
    return DONE


def _pictures(command: Pictures, selection: Selection) -> int:
    told = pictures.export_pictures(
        selection, command.save, command.what, vmax=command.vmax, max_side_px=command.max_side
    )
    scale = f", colours from 0 to {told.vmax:.4g}" if command.what == "overlay" else ""
    print(shown(f"Run {told.run_id}: {told.pictures:,} {command.what}s in {told.folder}{scale}"))
    print(shown(told.index))
    if told.problems:
        print(
            shown(f"{told.problems:,} images have none, for reasons told in the index; the first: {told.first_problem}")
        )
    return TOO_MANY_BAD if told.problems else DONE


def _from_review(command: FromReview, selection: Selection) -> int:
    names = asdict(command.naming)
    told = reviewed.import_reviewed(selection, command.source, command.save, labels=command.labels, **names)
    print(f"Run {told.run_id}: {told.anomalous:,} images were found anomalous, {told.normal:,} normal.")
    if told.contradictory:
        print(f"{told.contradictory:,} of the normal ones have shapes all the same, which are left out.")
    if told.repeated:
        print(
            f"{told.repeated:,} images are in the file more than once: of COCO all shapes count, else the last change."
        )
    if told.left_out:
        others = ", ".join(f"{label} ({count:,})" for label, count in told.left_out.items())
        print(shown(f"Shapes of other labels are left out; --labels takes them: {others}"))
    if told.unknown:
        print(
            shown(
                f"{told.unknown:,} reviewed pictures are not among the chosen images; the first: {told.first_unknown}"
            )
        )
    print(shown(told.manifest))
    return DONE


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Command)))
