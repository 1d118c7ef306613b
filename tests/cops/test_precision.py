"""Lower precisions against float32, on photographs: within what is published."""

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.datasets import load_sample_images

import cops
from cops.attention import QuantizedAttention, attend
from cops.precision import PRECISIONS, TOLERANCES
from cops.products import Int8Linear, feed_forward, linear


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    """Thirty pieces of scikit-learn's two photographs."""
    return [
        Image.fromarray(whole[top : top + 214, left : left + 214])
        for whole in load_sample_images().images
        for top, left in product((0, 106, 212), range(0, 425, 106))
    ]


@pytest.fixture(scope="module")
def exact(photographs) -> cops.Prediction:
    return cops.load().predict(photographs, batch_size=1)


def require_within(model: cops.CoPS, found: cops.Prediction, exact: cops.Prediction) -> None:
    limit = TOLERANCES[model.precision]
    assert np.abs(found.pred_score - exact.pred_score).max() <= limit.score
    assert spearmanr(found.pred_score, exact.pred_score).statistic >= limit.spearman
    assert np.abs(model.anomaly_map(found.patch_scores) - model.anomaly_map(exact.patch_scores)).max() <= limit.map


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_within_its_tolerance(precision, photographs, exact):
    """In batches, where float32 scores each picture alone."""
    model = cops.load(precision=precision)
    found = model.predict(photographs, batch_size=7)
    require_within(model, found, exact)
    if precision != "float32":
        assert np.abs(found.pred_score - exact.pred_score).max() > 1e-5  # it is another precision indeed


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_every_precision_of_a_gpu_is_within_its_tolerance(precision, photographs, exact):
    """Against float32 on the CPU."""
    model = cops.load(device="cuda", precision=precision)
    require_within(model, model.predict(photographs), exact)


def test_int8_products_are_exact_sums_of_rounded_factors():
    """Against float64 arithmetic on the same integers; no token depends on another, of any number of them."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(48, 32, generator=generator), torch.randn(48, generator=generator)
    rows = torch.randn(300, 32, generator=generator) * torch.logspace(-3, 3, 300)[:, None]
    rows[7] = 0
    found = Int8Linear(weight, bias)(rows)
    steps = [one.abs().amax(1, keepdim=True).clamp_min(1e-38) / 127 for one in (rows, weight)]
    a, b = ((one / step).round().double() for one, step in zip((rows, weight), steps, strict=True))
    expected = (a @ b.T) * steps[0] * steps[1].T + bias
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-5)
    torch.testing.assert_close(found[7], bias.bfloat16(), rtol=0, atol=0)
    torch.testing.assert_close(Int8Linear(weight, bias)(rows[5:6]), found[5:6], rtol=0, atol=0)


def test_int8_keeps_what_is_no_number_visible():
    """A NaN does not become a plausible score."""
    rows = torch.tensor([[float("nan"), 1.0], [1.0, 2.0]])
    found = Int8Linear(torch.eye(2), torch.zeros(2))(rows)
    assert found[0].isnan().all() and found[1].isfinite().all()


def test_int8_holds_the_image_towers_weights_in_a_byte_each(tiny_checkpoint):
    """Its products with weights, and no others."""
    model = cops.from_checkpoint(tiny_checkpoint, precision="int8")
    for block in model.visual.transformer.resblocks:
        assert isinstance(block.attn, QuantizedAttention)
        products = (block.attn.in_proj, block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj)
        assert {product.weight.dtype for product in products} == {torch.int8}
    assert model.transformer.resblocks[0].mlp.c_fc.weight.dtype == torch.bfloat16


def test_int8_is_refused_on_a_gpu(tiny_checkpoint, monkeypatch):
    """With what to take instead."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(cops.ConfigError, match="'int8' is for CPUs; on cuda use bfloat16 or float16"):
        cops.from_checkpoint(tiny_checkpoint, device="cuda:0", precision="int8")


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(("queries", "keys"), [(1, 5), (7, 2000), (700, 2000)])
def test_attention_on_a_cpu(dtype, atol, queries, keys):
    """Written out in parts, it is what torch's own gives in float64; tokens lie as `split_heads` leaves them."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, queries, 3, 16, generator=generator).to(dtype).transpose(1, 2)
    key, value = (torch.randn(2, keys, 3, 16, generator=generator).to(dtype).transpose(1, 2) for _ in range(2))
    expected = torch.nn.functional.scaled_dot_product_attention(query.double(), key.double(), value.double())
    torch.testing.assert_close(attend(query, key, value).double(), expected, rtol=0, atol=atol)


def test_products_in_float32_are_exact_and_can_be_learned_through():
    """Those of oneDNN give what float64 does, but have no gradient; torch's own are taken where one is wanted."""
    generator = torch.Generator().manual_seed(0)
    tokens, weight = torch.randn(2, 40, 96, generator=generator), torch.randn(64, 96, generator=generator)
    bias = torch.randn(64, generator=generator)
    exact = tokens.double() @ weight.double().T + bias.double()
    torch.testing.assert_close(linear(tokens, weight, bias).double(), exact, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(linear(tokens, weight).double(), exact - bias, rtol=1e-5, atol=2e-5)
    for learned in (tokens, weight, bias):
        learned.requires_grad_()
        (slope,) = torch.autograd.grad(linear(tokens, weight, bias).sum(), learned)
        assert slope.abs().sum() > 0
        with torch.no_grad():
            torch.testing.assert_close(linear(tokens, weight, bias).double(), exact, rtol=1e-5, atol=2e-5)
        learned.requires_grad_(False)


def test_attention_on_a_cpu_can_be_learned_through():
    """Of queries, keys or values alone."""
    tokens = torch.randn(3, 1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    for place in range(3):
        factors = list(tokens.unbind())
        factors[place] = factors[place].clone().requires_grad_()
        (slope,) = torch.autograd.grad(attend(*factors).square().sum(), factors[place])
        assert slope.abs().sum() > 0


def test_the_mlp_in_one_pass_less(tiny):
    """Quick GELU by SiLU, its factors in the products: equal to the modules one after the other."""
    block = tiny.visual.transformer.resblocks[0]
    tokens = torch.randn(2, 300, block.ln_2.weight.shape[0], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(feed_forward(block, tokens), block.mlp(block.ln_2(tokens)), rtol=1e-5, atol=1e-5)
