"""jobs/evaluate.py as a user starts it, on small trees in MVTec AD's layout; its figures held against brute force."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import open_clip
import pandas as pd
import pytest
from PIL import Image
from real_parts import ROOT, clean_environment
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

import cops
import pipeline
from cops.assembly import assemble
from cops.checkpoint import save_checkpoint
from cops.zero_shot import ANOMALOUS, NORMAL, prompts
from pipeline.masks import patch_grid
from pipeline.samples.plan import Settings, pictures

Evaluate = Callable[..., subprocess.CompletedProcess[str]]
SIDE = 56
CATEGORIES = ("tablet", "wood")


@pytest.fixture(scope="module")
def evaluate() -> Evaluate:
    """Runs jobs/evaluate.py and returns what it printed; fails where the exit code is another."""

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "jobs" / "evaluate.py"), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=280, env=clean_environment(), check=False
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A seeded model of a few kilobytes that knows the words of the baseline's prompts."""
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    texts = prompts(NORMAL) + prompts(ANOMALOUS)
    used = sorted({token for text in texts for token in tokenizer.encode(text)} | {269})
    arch = {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 7, "head_width": 32},
        "text_cfg": {"context_length": 20, "vocab_size": len(used) + 2, "width": 48, "heads": 3, "layers": 3},
    }
    ends = {"sot_id": len(used), "eot_id": len(used) + 1, "stop_id": used.index(269)}
    made = assemble(arch, image_size=SIDE, vocabulary=(*used, 49406, 49407), **ends)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_checkpoint(path, config=made.config, tensors=made.tensors, provenance=made.provenance)
    return str(path)


def write_tree(root: Path) -> Path:
    """MVTec AD's layout: two categories, 12 images each."""
    settings = Settings(count=24, size=64, anomaly_rate=0.5, categories=",".join(CATEGORIES), encoding="png")
    for picture in pictures(settings, 0):
        category, kind, name = picture.name.split("/")
        image = root / category / "test" / kind / name
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(picture.image_bytes)
        if picture.mask_png:
            mask = root / category / "ground_truth" / kind / f"{image.stem}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            mask.write_bytes(picture.mask_png)
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def arguments(tree: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    output = tmp_path_factory.mktemp("evaluated")
    of_run = ["--dataset", "mvtec-ad", "--data", str(tree), "--output", str(output), "--run-id", "r"]
    return [*of_run, "--model", model, "--baseline"]


@pytest.fixture(scope="module")
def printed(arguments: list[str], evaluate: Evaluate) -> str:
    return evaluate(*arguments).stdout


@pytest.fixture(scope="module")
def output(arguments: list[str], printed: str) -> Path:
    return Path(arguments[arguments.index("--output") + 1])


@pytest.fixture(scope="module")
def metrics(output: Path) -> pd.DataFrame:
    return pd.read_parquet(output / "evaluations/r/metrics.parquet")


Mask = npt.NDArray[np.bool_]
Halves = npt.NDArray[np.float16]


def maps_and_masks(output: Path, run_id: str, category: str) -> tuple[pd.DataFrame, Halves, Mask]:
    """A category's rows, with the maps drawn by `cops.anomaly_map` and the masks resized as the published code does."""
    rows = pipeline.open_run(str(output), run_id).scores.to_table().to_pandas()
    rows = rows[rows["category"] == category].reset_index(drop=True)
    grids = np.stack([patch_grid(row) for row in rows.to_dict("records")])
    masks = np.zeros((len(rows), SIDE, SIDE), bool)
    for at, uri in enumerate(rows["mask_uri"]):
        if isinstance(uri, str):
            small = Image.open(uri).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            masks[at] = np.asarray(small) > 127
    return rows, cops.anomaly_map(grids, image_size=SIDE).astype(np.float16), masks


def brute_force_aupro(maps: Halves, masks: Mask, limit: float = 0.3) -> float:
    """Every distinct value as a threshold, every region by itself."""
    regions = []
    for at, mask in enumerate(masks):
        labels, found = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(at, labels == number) for number in range(1, found + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        points.append((found[~masks].mean(), float(np.mean([found[at][region].mean() for at, region in regions]))))
        if points[-1][0] > limit:
            break
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        end = min(x1, limit)
        y_end = y1 if x1 == x0 else y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def seven_metrics(labels: Mask, scores: npt.NDArray[np.float64]) -> list[float]:
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
    return [sklearn_metrics.roc_auc_score(labels, scores), sklearn_metrics.average_precision_score(labels, scores), f1]


@pytest.mark.parametrize(("method", "run_id"), [("CoPS", "r"), ("CLIP", "r-clip")])
def test_every_figure_is_that_of_scikit_learn_and_brute_force(
    method: str, run_id: str, output: Path, metrics: pd.DataFrame
) -> None:
    """Seven metrics of each category to 1e-9 of all float16 pixels in one list; the mean is unweighted."""
    own = metrics[(metrics["source"] == "run") & (metrics["method"] == method)]
    by_category = []
    for category in CATEGORIES:
        rows, maps, masks = maps_and_masks(output, run_id, category)
        assert len(rows) == 12 and masks.any()
        expected = seven_metrics(rows["label"] == 1, rows["pred_score"].astype(np.float64))
        expected += [*seven_metrics(masks.ravel(), maps.ravel().astype(np.float64)), brute_force_aupro(maps, masks)]
        found = own[own["category"] == category]
        assert found["value"].tolist() == pytest.approx(expected, abs=1e-9)
        assert (found["n_normal"] + found["n_anomalous"]).eq(12).all()
        by_category.append(expected)
    assert own[own["category"].isna()]["value"].tolist() == pytest.approx(np.mean(by_category, axis=0), abs=1e-9)


def test_the_scores_are_a_run_like_any_other(output: Path, tree: Path) -> None:
    """Committed, with label, defect and mask of each image as columns; the two methods' model ids differ."""
    query = f"SELECT * FROM read_parquet('{output}/scores/*/*.parquet', hive_partitioning = true)"
    rows = duckdb.sql(query).to_arrow_table().to_pandas()
    assert rows.groupby("run_id").size().to_dict() == {"r": 24, "r-clip": 24}
    assert rows["model_id"].nunique() == 2 and rows["image_id"].nunique() == 24
    anomalous = rows["label"] == 1
    assert (rows["mask_uri"].notna() == anomalous).all() and ((rows["defect"] == "good") == ~anomalous).all()
    assert rows["image_uri"].str.startswith(str(tree)).all()
    clip = rows[rows["run_id"] == "r-clip"]
    assert (clip["pred_score"] == clip["class_score"]).all()


def test_what_is_printed_is_what_is_written(printed: str, output: Path, metrics: pd.DataFrame) -> None:
    """The terminal's percents are the table's; the paper's seven methods and the differences stand beside them."""
    folder = output / "evaluations/r"
    assert {path.name for path in folder.iterdir()} == {
        "metrics.parquet", "metrics.csv", "metrics.md", "flaws.parquet", "flaws.csv",
        "curves-cops-image.png", "curves-cops-pixel.png", "curves-clip-image.png", "curves-clip-pixel.png",
    }  # fmt: skip
    means = metrics[(metrics["source"] == "run") & metrics["category"].isna()]
    for method in ("CoPS", "CLIP"):
        line = next(line for line in printed.splitlines() if line.split()[:3] == [method, "this", "run"])
        assert line.split()[3:] == [f"{100 * value:.1f}" for value in means[means["method"] == method]["value"]]
    ours = means[(means["method"] == "CoPS") & (means["metric"] == "I-AUROC")].iloc[0]
    assert ours["difference"] == pytest.approx(ours["value"] - 0.95)
    for line in ("WinCLIP", "FAPrompt", "CoPS − paper's CoPS", "CoPS − CLIP", "2 instead of 15 categories"):
        assert line in printed
    markdown = (folder / "metrics.md").read_text()
    assert "| tablet |" in markdown and "curves-cops-pixel.png" in markdown
    assert pd.read_csv(folder / "metrics.csv")["value"].tolist() == pytest.approx(metrics["value"].tolist(), abs=0)
    assert pd.read_parquet(folder / "flaws.parquet").empty


def test_a_second_command_scores_only_what_is_missing(
    arguments: list[str], output: Path, metrics: pd.DataFrame, evaluate: Evaluate
) -> None:
    """The baseline's run is lost: it alone is scored again, and every figure comes out as before."""
    kept = {path: path.read_bytes() for path in output.glob("scores/run_id=r/*")}
    (output / "runs/r-clip.json").unlink()
    for path in output.glob("scores/run_id=r-clip/*"):
        path.unlink()
    evaluate(*arguments)
    assert {path: path.read_bytes() for path in output.glob("scores/run_id=r/*")} == kept
    again = pd.read_parquet(output / "evaluations/r/metrics.parquet")
    pd.testing.assert_frame_equal(again, metrics)


def test_flawed_images_are_told_and_left_out(tmp_path: Path, model: str, evaluate: Evaluate) -> None:
    """Masks of the wrong kind and images that cannot be read: named with their problem, in no pixel metric; exit 3."""
    tree = write_tree(tmp_path / "tree")
    masks = sorted((tree / "wood/ground_truth").rglob("*.png"))
    Image.new("L", (65, 64), 255).save(masks[0])
    Image.new("L", (64, 64), 0).save(masks[1])
    masks[2].write_bytes(b"no picture")
    masks[3].unlink()
    normal = sorted((tree / "wood/test/good").glob("*.png"))
    (tree / "wood/ground_truth/good").mkdir()
    Image.new("L", (64, 64), 255).save(tree / "wood/ground_truth/good" / f"{normal[0].stem}_mask.png")
    normal[1].write_bytes(b"no picture")
    of_run = ["--dataset", "mvtec-ad", "--data", str(tree), "--output", str(tmp_path / "out"), "--run-id", "r"]
    told = evaluate(*of_run, "--model", model, code=3).stdout
    flaws = pd.read_csv(tmp_path / "out/evaluations/r/flaws.csv").set_index("problem")
    assert flaws["image_uri"].map(lambda uri: Path(uri).stem).to_dict() == {
        "mask_of_another_size": masks[0].stem.removesuffix("_mask"),
        "empty_mask": masks[1].stem.removesuffix("_mask"),
        "unreadable_mask": masks[2].stem.removesuffix("_mask"),
        "no_mask": masks[3].stem.removesuffix("_mask"),
        "mask_of_a_normal_image": normal[0].stem,
        "not_scored": normal[1].stem,
    }
    assert (flaws["category"] == "wood").all()
    assert "mask_of_another_size" in told and "23 of 24 images scored" in told and "exit code 3" in told
    metrics = pd.read_parquet(tmp_path / "out/evaluations/r/metrics.parquet")
    wood = metrics[(metrics["category"] == "wood") & (metrics["source"] == "run")].set_index("metric")
    images = int(wood.loc["I-AP", "n_normal"]), int(wood.loc["I-AP", "n_anomalous"])
    pixels = int(wood.loc["P-AP", "n_normal"]), int(wood.loc["P-AP", "n_anomalous"])
    assert sum(images) == 11
    assert pixels == (images[0] - 1, images[1] - 4)
    rows, maps, masks_at_side = maps_and_masks_of_sound(tmp_path / "out", flaws["image_uri"].tolist())
    assert len(rows) == sum(pixels)
    assert wood.loc["AUPRO@0.3", "value"] == pytest.approx(brute_force_aupro(maps, masks_at_side), abs=1e-9)


def maps_and_masks_of_sound(output: Path, flawed: list[str]) -> tuple[pd.DataFrame, Halves, Mask]:
    rows = pipeline.open_run(str(output)).scores.to_table().to_pandas()
    sound = rows[(rows["category"] == "wood") & ~rows["image_uri"].isin(flawed)].reset_index(drop=True)
    grids = np.stack([patch_grid(row) for row in sound.to_dict("records")])
    masks = np.zeros((len(sound), SIDE, SIDE), bool)
    for at, uri in enumerate(sound["mask_uri"]):
        if isinstance(uri, str):
            masks[at] = np.asarray(Image.open(uri).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) > 127
    return sound, cops.anomaly_map(grids, image_size=SIDE).astype(np.float16), masks


def test_what_cannot_be_done_is_said_before_anything_is_scored(tree: Path, tmp_path: Path, evaluate: Evaluate) -> None:
    """A baseline on a model without the words; a folder of another layout. Nothing is written."""
    of_run = ["--dataset", "mvtec-ad", "--output", str(tmp_path / "out")]
    other = evaluate(*of_run, "--data", str(tree / "wood/test"), code=2)
    assert "expected a folder for each category, with a folder 'test' in it; found" in other.stderr
    wordless = evaluate(*of_run, "--data", str(tree), "--model", str(wordless_model(tmp_path)), "--baseline", code=2)
    assert "--baseline: this model reads no written text: its token table has 5 rows" in wordless.stderr
    assert "Traceback" not in wordless.stderr + other.stderr
    assert not (tmp_path / "out").exists()


def wordless_model(folder: Path) -> Path:
    arch = {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14, "head_width": 32},
        "text_cfg": {"context_length": 20, "vocab_size": 5, "width": 48, "heads": 3, "layers": 3},
    }
    made = assemble(arch, sot_id=0, stop_id=1, eot_id=4)
    save_checkpoint(folder / "wordless.safetensors", config=made.config, tensors=made.tensors, provenance={})
    return folder / "wordless.safetensors"
