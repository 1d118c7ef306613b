"""Epochs over frozen features: one process or several, with the same result.

Order and noise of an epoch are drawn for the whole of it from the recipe's seed and the epoch's number. Each process
takes its share of every batch; sums, counts and gradients are added up over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cops.errors import CheckpointError
from cops.training.losses import NAMES
from cops.training.objective import Batch, Learner
from cops.training.recipe import Recipe

T = TypeVar("T")


class Examples(Protocol):
    """Features with labels and coverage, by number."""

    def __len__(self) -> int: ...

    def batch(self, rows: list[int]) -> Batch: ...


class Team:
    """The processes that train together; this one is all of them."""

    rank = 0
    size = 1

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of every process's tensor, in place."""
        return tensor

    def gather(self, value: T) -> list[T]:
        """Every process's value, in order of rank; none goes on before all have given theirs."""
        return [value]


class TorchTeam(Team):
    """The processes of torch's default group."""

    def __init__(self) -> None:
        self.rank, self.size = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def add_up(self, tensor: Tensor) -> Tensor:
        torch.distributed.all_reduce(tensor)
        return tensor

    def gather(self, value: T) -> list[T]:
        gathered: list[T | None] = [None] * self.size
        torch.distributed.all_gather_object(gathered, value)
        return cast(list[T], gathered)


@dataclass(frozen=True)
class EpochLosses:
    """The mean of each loss over an epoch's batches, and of their weighted total."""

    losses: dict[str, float]
    total: float


class Trainer:
    """A learner with its optimiser; `state` and `restore` carry both over a restart."""

    def __init__(self, learner: Learner, recipe: Recipe, team: Team | None = None) -> None:
        self.learner = learner
        self.recipe = recipe
        self.team = team or Team()
        self.epoch = 0
        self.parameters = {name: value for name, value in learner.named_parameters() if value.requires_grad}
        self.optimiser = torch.optim.Adam(self.parameters.values(), lr=recipe.learning_rate, betas=recipe.betas)

    def run_epoch(self, examples: Examples) -> EpochLosses:
        """Every example once, in an order of this epoch's own."""
        order, noise = self._draw(len(examples))
        weights = self.recipe.weights.vector().to(self.learner.model.device)
        total = torch.zeros(len(NAMES), device=weights.device)
        batches = order.split(self.recipe.batch_size)  # type: ignore[no-untyped-call]
        for rows in batches:
            total += self._step(examples, rows, noise, weights)
        self.epoch += 1
        means = total / len(batches)
        return EpochLosses(dict(zip(NAMES, means.tolist(), strict=True)), float((means * weights).sum()))

    def state(self) -> dict[str, Tensor]:
        """What training has changed: parameters, Adam's moments and steps, and the number of epochs done."""
        tensors = {"epoch": torch.tensor(self.epoch)}
        for name, parameter in self.parameters.items():
            tensors[f"parameter.{name}"] = parameter.detach()
            for kind, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{kind}.{name}"] = value
        return tensors

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave.

        Raises:  CheckpointError: it is of another learner.
        """
        expected = {f"parameter.{name}": tuple(parameter.shape) for name, parameter in self.parameters.items()}
        found = {name: tuple(tensor.shape) for name, tensor in state.items() if name.startswith("parameter.")}
        if expected != found:
            differing = sorted(expected.items() ^ found.items())
            raise CheckpointError(f"the training state is of another model; it differs in {differing[:3]}")
        for name, parameter in self.parameters.items():
            parameter.data.copy_(state[f"parameter.{name}"])
            self.optimiser.state[parameter] = {
                # Adam counts its steps on the CPU, wherever the parameters are.
                kind: state[f"adam.{kind}.{name}"].to("cpu" if kind == "step" else parameter.device, copy=True)
                for kind in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.{kind}.{name}" in state
            }
        self.epoch = int(state["epoch"])

    def _draw(self, count: int) -> tuple[Int[Tensor, " n"], Float[Tensor, "n c"]]:
        """The epoch's order, and a draw of noise for each example."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 100_003 + self.epoch)
        width = self.learner.model.prompt_learner.t_n.shape[1]
        return torch.randperm(count, generator=generator), torch.randn(count, width, generator=generator)

    def _step(
        self, examples: Examples, rows: Tensor, noise: Float[Tensor, "n c"], weights: Float[Tensor, " l"]
    ) -> Float[Tensor, " l"]:
        """One step of the optimiser; the means of the whole batch's losses."""
        self.optimiser.zero_grad()
        mine = rows[self.team.rank :: self.team.size]
        sums, counts = torch.zeros_like(weights), torch.zeros_like(weights)
        if len(mine):
            found = self.learner(examples.batch(mine.tolist()), noise[mine].to(weights.device))
            sums, counts = found.sums, found.counts
        counts = self.team.add_up(counts.clone()).clamp_min(1)
        if len(mine):
            (weights * sums / counts).sum().backward()  # type: ignore[no-untyped-call]
        for gradient in self._gradients():
            self.team.add_up(gradient)
        self.optimiser.step()
        return self.team.add_up(sums.detach().clone()) / counts

    def _gradients(self) -> Iterator[Tensor]:
        for parameter in self.parameters.values():
            if parameter.grad is None:  # nothing of this batch is here
                parameter.grad = torch.zeros_like(parameter)
            yield parameter.grad
