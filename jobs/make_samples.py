"""Writes a procedural archive of inspection pictures, with masks, labels and, on request, hostile files."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from jobs.exits import DONE, fail
from pipeline.errors import InputError, RunError
from pipeline.samples.archive import Summary, write_archive
from pipeline.samples.plan import Settings


def describe(summary: Summary) -> str:
    """The summary in a few lines."""
    kinds = ", ".join(f"{category} {count}" for category, count in summary.by_category.items())
    verb = "was complete already: " if summary.complete_before else "wrote "
    rate = summary.seconds / max(summary.pictures, 1) * 1000
    return (
        f"{verb}{summary.output}\n"
        f"  {summary.pictures} pictures ({summary.anomalous} anomalous), {summary.hostile} hostile entries, "
        f"{summary.num_bytes / 1e6:.1f} MB of images\n"
        f"  {kinds}\n"
        f"  {summary.seconds:.1f} s, {rate:.1f} ms a picture"
    )


def main(arguments: list[str] | None = None) -> int:
    try:
        summary = write_archive(tyro.cli(Settings, args=arguments, description=__doc__))
    except InputError as error:  # the output holds something else
        return fail(error)
    except OSError as error:
        return fail(RunError(f"cannot write the archive: {error}"))
    print(describe(summary))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
