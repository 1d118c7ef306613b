"""Texts that a person wrote, through CLIP's tokenizer and text tower: what CoPS's learned prompts are compared with."""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float, Int
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.nn import functional

from cops.backbone import architecture
from cops.config import CopsConfig
from cops.errors import ConfigError
from cops.model import CoPS
from cops.prompts import causal_layer

_SHOWN = 40  # words that an error message lists


def tokenize(texts: Sequence[str], config: CopsConfig, *, length: int) -> Int[Tensor, "n t"]:
    """Rows of the token table for each text, between start and end of text; what follows is padded with the end.

    Args:    length: positions that the text tower has.
    Raises:  ConfigError: a text has a word that the model's token table does not hold, or is too long.
    """
    encoded = [[config.sot_id, *_rows(text, config), config.eot_id] for text in texts]
    longest = max(map(len, encoded), default=0)
    if longest > length:
        text = next(text for text, ids in zip(texts, encoded, strict=True) if len(ids) == longest)
        raise ConfigError(f"{text!r} has {longest} tokens; the text tower reads at most {length}")
    return torch.tensor([ids + [config.eot_id] * (longest - len(ids)) for ids in encoded], dtype=torch.int64)


def encode_texts(model: CoPS, texts: Sequence[str]) -> Float[Tensor, "n c"]:
    """Unit text features, as CLIP gives them: no learned token takes part.

    Raises:  ConfigError: as `tokenize`.
    """
    tokens = tokenize(texts, model.config, length=len(model.positional_embedding)).to(model.device)
    return encode_tokens(model, tokens)


def encode_tokens(model: CoPS, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n c"]:
    """Unit text features of what `tokenize` gave."""
    x = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
    for block in model.transformer.resblocks:
        x, _, _ = causal_layer(block, x)
    ends = x[torch.arange(len(x), device=x.device), (tokens == model.config.eot_id).int().argmax(dim=1)]
    return functional.normalize(model.ln_final(ends) @ model.text_projection, dim=-1)


def words_of(config: CopsConfig) -> list[str]:
    """The words, and pieces of words, that a model with a vocabulary of its own knows."""
    special = {_tokenizer().sot_token_id, _tokenizer().eot_token_id}
    return sorted(_word(token) for token in config.vocabulary if token not in special)


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def _word(token: int) -> str:
    word: str = _tokenizer().decoder[token].removesuffix("</w>")
    return word


def _require_whole_table(config: CopsConfig) -> None:
    words: int = _tokenizer().vocab_size
    rows = architecture(config.backbone)["text_cfg"].get("vocab_size", words)
    if rows != words:
        raise ConfigError(
            f"this model reads no written text: its token table has {rows} rows of CLIP's {words}, and no vocabulary "
            "says which"
        )


def _rows(text: str, config: CopsConfig) -> list[int]:
    tokens: list[int] = _tokenizer().encode(text)
    if not config.vocabulary:  # the whole of CLIP's table
        _require_whole_table(config)
        return tokens
    rows = {token: row for row, token in enumerate(config.vocabulary)}
    if unknown := [repr(_word(token)) for token in tokens if token not in rows]:
        known = words_of(config)
        listed = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
        raise ConfigError(f"{text!r}: this model does not know {', '.join(unknown)}; its words are {listed}")
    return [rows[token] for token in tokens]
