"""Texts through the tokenizer and text tower, against open_clip's own."""

import dataclasses
from typing import Any

import open_clip
import pytest
import torch

import cops
from cops.backbone import build_clip
from cops.texts import encode_texts, tokenize, words_of

TEXTS = ["a photo of a scratched plate", "hazelnut", "a photo of a cracked, dirty tile."]


def with_words(arch: dict[str, Any], texts: list[str]) -> cops.CoPS:
    """A small seeded model whose token table holds the words of these texts alone."""
    tokens = open_clip.tokenizer.SimpleTokenizer()
    used = sorted({token for text in texts for token in tokens.encode(text)} | {269})
    vocabulary = (*used, 49406, 49407)
    small = {**arch, "text_cfg": {**arch["text_cfg"], "vocab_size": len(vocabulary)}}
    ends = {"sot_id": len(used), "eot_id": len(used) + 1, "stop_id": used.index(269)}
    return cops.build(small, vocabulary=vocabulary, **ends)


@pytest.fixture(scope="module")
def model(arch: dict[str, Any]) -> cops.CoPS:
    return with_words(arch, TEXTS)


def test_text_features_equal_open_clips(model: cops.CoPS) -> None:
    reference = build_clip(model.config).eval()
    reference.load_state_dict(model.state_dict(), strict=False)
    tokens = tokenize(TEXTS, model.config, length=reference.context_length)
    padded = torch.zeros(len(TEXTS), reference.context_length, dtype=torch.int64)
    for row, ids in enumerate(tokens.tolist()):
        end = ids.index(model.config.eot_id) + 1
        padded[row, :end] = torch.tensor(ids[:end])
    with torch.no_grad():
        expected = reference.encode_text(padded, normalize=True)  # reads at the largest number, which is the end's
        torch.testing.assert_close(encode_texts(model, TEXTS), expected, atol=1e-5, rtol=0)


def test_a_text_alone_gives_what_it_gives_among_longer_ones(model: cops.CoPS) -> None:
    torch.testing.assert_close(encode_texts(model, TEXTS)[1:2], encode_texts(model, TEXTS[1:2]), atol=1e-6, rtol=0)


def test_rows_are_those_of_clips_tokens(model: cops.CoPS) -> None:
    rows = tokenize(["hazelnut"], model.config, length=32)[0].tolist()
    assert [model.config.vocabulary[row] for row in rows] == [49406, 35816, 49407]


def test_a_whole_table_is_in_clips_order() -> None:
    assert tokenize(["hazelnut"], cops.CopsConfig(), length=77).tolist() == [[49406, 35816, 49407]]


def test_an_unknown_word_is_named_with_those_there_are(model: cops.CoPS) -> None:
    with pytest.raises(
        cops.ConfigError, match=r"'a rusty tile': this model does not know 'rusty'; its words are .*'?cracked"
    ):
        encode_texts(model, ["a rusty tile"])


def test_a_text_too_long_is_refused(model: cops.CoPS) -> None:
    with pytest.raises(cops.ConfigError, match="92 tokens; the text tower reads at most"):
        encode_texts(model, ["photo " * 90])


def test_words_are_listed(model: cops.CoPS) -> None:
    assert {"scratched", "hazelnut", "photo"} <= set(words_of(model.config)) and "<end_of_text>" not in words_of(
        model.config
    )


@pytest.mark.parametrize("vocabulary", [(1, 1), (-1,), ("a",), 7, [True]])
def test_a_vocabulary_that_is_none_is_refused(vocabulary: Any) -> None:
    with pytest.raises(cops.ConfigError, match="vocabulary must be distinct token numbers"):
        cops.CopsConfig(vocabulary=vocabulary)


def test_a_vocabulary_of_another_size_than_the_table_is_refused(model: cops.CoPS) -> None:
    with pytest.raises(cops.ConfigError, match=r"vocabulary names 2 tokens; the token table has \d+ rows"):
        cops.CoPS(dataclasses.replace(model.config, vocabulary=(1, 2)))


def test_a_vocabulary_changes_no_score(arch: dict[str, Any], model: cops.CoPS) -> None:
    config = model.config
    tensors = model.state_dict()
    ids = {
        cops.Checkpoint(changed, {}, tensors).model_id()
        for changed in (config, dataclasses.replace(config, vocabulary=tuple(reversed(config.vocabulary))))
    }
    assert len(ids) == 1
    assert cops.CopsConfig.from_json(config.to_json()) == config
