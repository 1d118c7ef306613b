"""Real runs on a real cluster, with a real store, and one thing after the other that goes wrong.

`python tests/chaos/campaign.py --faults 200`, or `make chaos`. Full disks are small ones that it mounts (tmpfs), which
takes root; without it these two faults are left out, and it says so.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cluster import Nodes
from harness import Fault, Harness
from places import KINDS, SELDOM, Place, local_place, make_archive, s3_place, small_disk

from cops.assembly import assemble
from cops.checkpoint import save_checkpoint

_SMALL = {  # a CLIP of a few kilobytes
    "embed_dim": 48,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14, "head_width": 32},
    "text_cfg": {"context_length": 20, "vocab_size": 5, "width": 48, "heads": 3, "layers": 3},
}


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What is to go wrong: so many faults, so many of `each` run, of the kinds in `only`, in these places in turn."""

    faults: int
    images: int
    seed: int
    each: int = 6
    only: tuple[str, ...] = KINDS
    places: tuple[str, ...] = ("local disk", "S3")


def carry_out(
    campaign: Campaign, folder: Path, say: Callable[[str], None], done: Callable[[list[Fault]], None] = lambda _: None
) -> list[Fault]:
    """Every kind as often as the others, but for those that take minutes.

    Args:    done: called with the faults of each run that was committed and found right.
    Raises:  BrokenPromiseError: a promise was not kept; says which, by which run.
    """
    chance = random.Random(campaign.seed)
    make_archive(folder, campaign.images)
    save = assemble(_SMALL, image_size=56, sot_id=0, stop_id=1, eot_id=4)
    save_checkpoint(folder / "small.safetensors", config=save.config, tensors=save.tensors, provenance=save.provenance)
    with ExitStack() as stack:
        spill = stack.enter_context(small_disk(folder / "spill"))
        both = (local_place(folder, spill), s3_place(folder, spill, campaign.seed))
        entered = [place for place in map(stack.enter_context, both) if place.name in campaign.places]
        places = [place for place in entered if set(place.kinds) & set(campaign.only)]
        possible = {kind for place in places for kind in place.kinds}
        if left_out := [kind for kind in campaign.only if kind not in possible]:
            say(f"left out, because nothing can be mounted here, or no place has it: {', '.join(left_out)}")
        if not places:
            raise RuntimeError(f"nothing to do: no place has any of {', '.join(campaign.only)}")
        environment = {name: value for place in places for name, value in place.environment.items()}
        nodes = Nodes(2, environment, folder / "spill")
        stack.callback(nodes.down)
        harness = Harness(folder, nodes, chance, say)
        for place in places:
            harness.undisturbed(place)
        bags = {place.name: Bag(place, campaign, chance) for place in places}
        number = 0
        while len(harness.faults) < campaign.faults:
            place = places[number % len(places)]
            bag = bags[place.name]
            before = len(harness.faults)
            wanted = min(campaign.each, campaign.faults - before)
            bag.put_back(harness.disturbed(place, f"{place.prefix}-{campaign.seed}-{number:03d}", bag.draw(wanted)))
            done(harness.faults[before:])
            number += 1
    return harness.faults


class Bag:
    """The kinds of fault of a place in random order, filled again when it is empty."""

    def __init__(self, place: Place, campaign: Campaign, chance: random.Random) -> None:
        self.kinds = [kind for kind in place.kinds if kind in campaign.only]
        self.chance = chance
        self.fills = 0
        self.left: list[str] = []

    def draw(self, count: int) -> list[str]:
        while len(self.left) < count:
            now = [kind for kind in self.kinds if kind not in SELDOM or self.fills % 3 == 0]
            self.left += self.chance.sample(now, len(now))
            self.fills += 1
        drawn, self.left = self.left[:count], self.left[count:]
        return drawn

    def put_back(self, kinds: list[str]) -> None:
        self.left[:0] = kinds


def table_of(faults: list[Fault]) -> str:
    """What was done, how often, and how the attempts ended."""
    rows = [
        "|fault|times|in an attempt that committed|in one that ended; the same command went on|",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        met = [fault for fault in faults if fault.kind == kind]
        on = sum(fault.ended == "went on" for fault in met)
        if met:
            rows.append(f"|{kind}|{len(met)}|{on}|{len(met) - on}|")
    runs = len({fault.run for fault in faults})
    return "\n".join([*rows, "", f"{len(faults)} faults in {runs} runs."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=6, help="faults a run")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=KINDS, help="kinds of fault")
    record = Path("build", time.strftime("chaos-%Y-%m-%dT%H-%M-%S.jsonl"))
    parser.add_argument("--record", type=Path, default=record, help="a line a fault; appended to")
    options = parser.parse_args()
    campaign = Campaign(
        faults=options.faults, images=options.images, seed=options.seed, each=options.each, only=tuple(options.only)
    )
    options.record.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="cops-chaos-"))
    print(f"logs of all runs: {folder}", flush=True)

    def note(faults: list[Fault]) -> None:
        with options.record.open("a") as out:
            out.writelines(json.dumps(vars(fault)) + "\n" for fault in faults)

    carry_out(campaign, folder, lambda line: print(f"{time.strftime('%H:%M:%S')} {line}", flush=True), note)
    print(table_of([Fault(**json.loads(line)) for line in options.record.read_text().splitlines()]))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
