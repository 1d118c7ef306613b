"""Published files: read without pickle, checked name by name, through the real command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import cops
from cops.class_tokens import draw_class_noise
from cops.clip_weights import file_sha256
from cops.errors import CheckpointError
from cops.importing import ImportOptions, import_weights
from cops.published import read_published
from jobs.import_weights import main

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture
def published():
    return torch.load(GOLDEN / "official_format_tiny.pth", weights_only=True)["prompt_learner"]


def run(*arguments):
    command = [sys.executable, "jobs/import_weights.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def run_here(monkeypatch, *arguments):
    """The command's exit code in this process, which spares the imports."""
    monkeypatch.setattr(sys, "argv", ["import_weights.py", *arguments])
    try:
        return main()
    except SystemExit as exc:
        return exc.code


def convert(weights, output, **options):
    base = {"profile": "published-visa", "backbone": str(GOLDEN / "clip_tiny.json"), "image_size": 112}
    return import_weights(ImportOptions(weights=weights, output=output, **(base | options)))


def test_the_command_imports_a_published_file(tmp_path):
    """`python jobs/import_weights.py`: exit code 0, the path on stdout, constants and origin in the header."""
    output = tmp_path / "new" / "tiny.safetensors"
    found = run(
        GOLDEN / "official_format_tiny.pth", "--profile", "published-mvtec", "--output", output,
        "--backbone", GOLDEN / "clip_tiny.json", "--image-size", 112, "--noise-seed", 3,
    )  # fmt: skip
    assert (found.returncode, found.stdout.strip(), found.stderr) == (0, str(output), "")
    with safe_open(output, "pt") as file:
        header, bank = file.metadata(), file.get_tensor("prompt_learner.class_noise")
    config, provenance = cops.CopsConfig.from_json(header["config"]), json.loads(header["provenance"])
    assert (config.k, config.alpha, config.beta, config.noise_seed) == (3, 0.35, 1.0, 3)
    assert provenance["source_sha256"] == file_sha256(GOLDEN / "official_format_tiny.pth")
    assert bank.equal(draw_class_noise(10, 192, seed=3))
    with pytest.raises(CheckpointError, match="clip_weights=PATH"):
        cops.read_checkpoint(output)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("none.pth", "--profile", "paper", "--output", "x"),
            2,
            "error: there is no file none.pth",
        ),
        (("none.pth", "--profile", "best", "--output", "x"), 2, "unknown profile 'best'"),
        (
            (
                str(GOLDEN / "official_format_tiny.pth"),
                "--profile",
                "paper",
                "--output",
                "x",
                "--backbone",
                str(GOLDEN / "clip_tiny.json"),
                "--pretrained",
                "openai",
            ),
            2,
            "--pretrained openai goes with open_clip's name",
        ),
        (("none.pth"), 2, "--profile"),
    ],
)
def test_the_command_explains_failures(arguments, code, message, monkeypatch, capsys):
    """Exit code 1 or 2 and one message, no traceback."""
    assert run_here(monkeypatch, *arguments) == code
    assert message in capsys.readouterr().err


def test_an_included_backbone_makes_it_whole(tmp_path, arch, clip_tensors, tiny_checkpoint):
    """With CLIP inside, no other file is needed; float16 is used where it loses nothing, and only there."""
    clip = {name: tensor.half() if "visual" in name else tensor for name, tensor in clip_tensors.items()}
    torch.save(clip, tmp_path / "clip.pt")
    sha = file_sha256(tmp_path / "clip.pt")
    output = convert(
        GOLDEN / "official_format_tiny.pth", tmp_path / "out.safetensors",
        clip_weights=tmp_path / "clip.pt", clip_sha256=sha, include_backbone=True,
    )  # fmt: skip
    read = cops.read_checkpoint(output)
    assert all(read.tensors[name].equal(tensor.float()) for name, tensor in clip.items())
    assert read.provenance["clip_sha256"] == sha
    assert read.provenance["source"] == "official_format_tiny.pth"


def test_misfits_are_listed(tmp_path, published):
    """Missing, unexpected and of the wrong shape, all in one message."""
    del published["t_n"]
    published |= {"colour": torch.zeros(1), "ctx_pos": torch.zeros(1, 1, 9, 192)}
    torch.save({"prompt_learner": published}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / "odd.pth", tmp_path / "out.safetensors")
    for part in ("missing: prompt_learner.t_n", "unexpected: prompt_learner.colour", "(1, 1, 9, 192) instead of"):
        assert part in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_another_backbone_is_named_by_its_shapes(tmp_path):
    """Weights of the tiny model do not fit ViT-L/14."""
    with pytest.raises(CheckpointError, match=r"\(6, 192\) instead of \(6, 768\)"):
        convert(
            GOLDEN / "official_format_tiny.pth", tmp_path / "out", backbone="ViT-L-14-336-quickgelu", image_size=518
        )


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_nothing_in_a_pickle_runs(tmp_path):
    """A published-looking file with more than tensors is refused, and does not run."""
    torch.save({"prompt_learner": {"t_n": Malicious(tmp_path / "touched")}}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        read_published(tmp_path / "bad.pth")
    assert not (tmp_path / "touched").exists()


def test_other_files_are_named(tmp_path, published):
    """Without the one key, with entries that are no tensors, or no torch file at all."""
    path = tmp_path / "odd.pth"
    torch.save(published, path)
    with pytest.raises(CheckpointError, match="no key 'prompt_learner'"):
        read_published(path)
    torch.save({"prompt_learner": {"t_n": 3}}, path)
    with pytest.raises(CheckpointError, match="no tensors: t_n"):
        read_published(path)
    for content in (b"", b"text", b"PK\x03\x04" + b"\xff" * 99):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            read_published(path)
