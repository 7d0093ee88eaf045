"""What a measurement keeps of each minibatch's gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lightning_tailindex.kernels import compiled

from .coordinates import CoordinateSample, kept_dtype, real_coordinates
from .minibatches import Minibatch
from .pairs import PairRecorder
from .sharded import OwnCoordinates, own_part

__all__ = ["Recorder", "flat_gradient", "squared"]


class Recorder:
    """Keeps sampled coordinates of each draw, and of all coordinates two sums and a sum of squared norms.

    The draws' sum is of differences from the first draw: where gradients differ little from each other, as late in a
    training with large minibatches, the difference of large sums would be rounding and nothing else. Minibatches that
    only count in the full gradient are summed up by automatic differentiation itself, which costs the least.

    Args:
        parameters: The measured parameters by name.
        groups: Names of the parameters of each group.
        sample: The coordinates to keep.
        num_draws: Draws at most.
        loss_scale: The factor by which lent gradients are too large.
        pairs: What takes all coordinates of the draws; None where the sampled ones are enough.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        groups: Mapping[str, tuple[str, ...]],
        sample: CoordinateSample,
        num_draws: int,
        loss_scale: float,
        pairs: PairRecorder | None,
    ) -> None:
        dtype, self.device = kept_dtype(parameters.values()), next(iter(parameters.values())).device
        self.groups = groups
        self.loss_scale = loss_scale
        self.sample = sample
        self.pairs = pairs
        self._own = OwnCoordinates.of(sample, parameters)
        self._sampled = torch.zeros(num_draws, len(self._own.columns), dtype=dtype, device=self.device)
        self.first = {
            name: torch.zeros(1, real_coordinates(own_part(p)), dtype=dtype, device=p.device)
            for name, p in parameters.items()
        }
        self.draw_sum = {name: torch.zeros_like(zero) for name, zero in self.first.items()}
        self.square = {name: zero.new_zeros(()) for name, zero in self.first.items()}
        sums = [list(kept.values()) for kept in (self.first, self.draw_sum, self.square)]
        self._compiled = compiled.DrawSums(*sums) if compiled.suit(*sums[0]) else None
        self._parameters = parameters
        self._rest: dict[str, Tensor | None] = dict.fromkeys(parameters)
        self._adjustment: dict[str, Tensor] = {}
        self._reference = 0
        self._draw_shares = 0.0
        self._rest_shares = 0.0
        self.num_draws = 0
        self.num_full = 0
        self.largest = 0
        self.shares_data = self.is_reached = False
        self.draw_samples: list[tuple[int, ...]] = []
        self._of_first_sweep: Tensor | None = None

    def share(self, minibatch: Minibatch) -> float:
        """Returns a minibatch's weight over that of the first one."""
        self._reference = self._reference or max(minibatch.weight, 1)
        return minibatch.weight / self._reference

    def record(self, minibatch: Minibatch, gradients: Mapping[str, Tensor]) -> None:
        """Takes a minibatch's gradient, which may be overwritten; a parameter that it does not reach has none."""
        if minibatch.is_draw:
            self.record_draws([minibatch], {name: gradient[None] for name, gradient in gradients.items()})
        else:
            share = self.share(minibatch) * self.loss_scale
            self.record_total([minibatch], {name: gradient.mul_(share) for name, gradient in gradients.items()})

    def record_draws(self, minibatches: Sequence[Minibatch], gradients: Mapping[str, Tensor]) -> None:
        """Takes draws' gradients, ``[draws, coordinates]``, to be overwritten, all of the first sweep or none."""
        if minibatches[0].sweep > 0 and self.num_draws > 0 and not self.shares_data:  # the first one of a further sweep
            self._of_first_sweep = torch.stack([self._noise_square(n, self.full_gradient(n)) for n in self.first])
        shares = [self.share(minibatch) * minibatch.in_full_gradient for minibatch in minibatches]
        if self.pairs is not None:
            for i in range(len(minibatches)):
                self.pairs.record({name: gradient[i] for name, gradient in gradients.items()})
        differences = [self._wide(name, gradients.get(name), len(minibatches)) for name in self.first]
        sampled = self._sampled_of(dict(zip(self.first, differences, strict=True)))
        self._sampled[self.num_draws : self.num_draws + len(minibatches)] = sampled
        self.is_reached |= bool(gradients)
        if self.num_draws == 0:
            for kept, gradient in zip(self.first.values(), differences, strict=True):
                kept.copy_(gradient[:1])
        if self._compiled is not None and all(share == 1 for share in shares) and compiled.suit(*differences):
            self._compiled.add(differences)
        else:
            self._add(shares, differences)
        self._draw_shares += sum(shares)
        self.num_draws += len(minibatches)
        self._count(minibatches)

    def _add(self, shares: Sequence[float], gradients: list[Tensor]) -> None:
        """Adds draws to the sums; one call for all parameters, as calls of small ones take longer than arithmetic."""
        first, draw_sums, squares = (list(kept.values()) for kept in (self.first, self.draw_sum, self.square))
        torch._foreach_sub_(gradients, first)
        torch._foreach_add_(draw_sums, [each if len(each) == 1 else each.sum(0, keepdim=True) for each in gradients])
        torch._foreach_add_(squares, [squared(each.flatten()) for each in gradients])
        if any(share != 1 for share in shares):
            self._adjust(shares, gradients)

    def _wide(self, name: str, gradients: Tensor | None, number: int) -> Tensor:
        """Gradients of a parameter, ``[draws, coordinates]``, in the precision that is kept; zeros where are none."""
        first = self.first[name]
        return first.new_zeros(number, first.shape[1]) if gradients is None else gradients.to(first.dtype)

    def _adjust(self, shares: Sequence[float], differences: Sequence[Tensor]) -> None:
        """Takes draws whose share in the full gradient is not that of the first minibatch."""
        for (name, first), difference in zip(self.first.items(), differences, strict=True):
            more = (difference.new_tensor(shares).sub_(1)[:, None] * difference).sum(0, keepdim=True)
            self._adjustment.setdefault(name, torch.zeros_like(first)).add_(more)

    def _sampled_of(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """The sampled coordinates of gradients ``[draws, coordinates]`` that this process holds."""
        parts = [gradients[name].index_select(1, index) for name, index in self._own.indices.items()]
        return torch.cat([part.to(self.device) for part in parts], dim=1)

    @property
    def rows(self) -> Tensor:
        """The draws' sampled coordinates, ``[draws, width]``, 0 where another process has them."""
        return self._own.rows(self._sampled[: self.num_draws])

    def row_of(self, gradient: Mapping[str, Tensor]) -> Tensor:
        """The sampled coordinates of a gradient, flat for each parameter, as a row like those of the draws."""
        return self._own.rows(self._sampled_of({name: own[None] for name, own in gradient.items()}))[0]

    def record_total(self, minibatches: Sequence[Minibatch], total: Mapping[str, Tensor]) -> None:
        """Takes the sum of other minibatches' gradients, each times its share and the loss scale, and keeps it."""
        for name, gradient in total.items():
            rest, own = self._rest[name], flat_gradient(gradient)
            self._rest[name] = own if rest is None else flat_gradient(rest).add_(own)  # a sum that was lent has a shape
        self.count_rest(minibatches)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Lets automatic differentiation add to the sum of the minibatches that are no draws; only to be added to."""
        for name, parameter in self._parameters.items():
            parameter.grad = self._rest[name]
        try:
            yield
        finally:
            for name, parameter in self._parameters.items():
                self._rest[name], parameter.grad = parameter.grad, None

    def count_rest(self, minibatches: Sequence[Minibatch]) -> None:
        """Counts minibatches whose gradients, each times its share, have been added to that sum."""
        self._rest_shares += sum(map(self.share, minibatches))
        self._count(minibatches)

    def _count(self, minibatches: Sequence[Minibatch]) -> None:
        for minibatch in minibatches:
            self.num_full += minibatch.in_full_gradient
            self.largest = max(self.largest, minibatch.size)
            self.shares_data |= minibatch.sweep > 0
            if minibatch.is_draw:
                self.draw_samples.append(minibatch.samples)

    def full_gradient(self, name: str) -> Tensor:
        """Returns the full gradient of a parameter in this process, flat."""
        shares = self._draw_shares + self._rest_shares
        if shares == 0:  # no minibatch that counts in it had a loss: the mean of the draws stands for it
            return self.first[name][0] + self.draw_sum[name][0] / max(self.num_draws, 1)
        full = (self.first[name][0] * (self._draw_shares / shares)).add_(self.draw_sum[name][0], alpha=1 / shares)
        if self._adjustment:
            full.add_(self._adjustment[name][0], alpha=1 / shares)
        rest = self._rest[name]
        return full if rest is None else full.add_(flat_gradient(rest).to(full), alpha=1 / (shares * self.loss_scale))

    def _noise_square(self, name: str, full: Tensor) -> Tensor:
        draws, rest = max(self.num_draws, 1), full - self.first[name][0]
        square = (self.square[name] - 2 * torch.dot(self.draw_sum[name][0], rest)) / draws + squared(rest)
        return square.to(self.device)

    def noise_squares(self, full: Mapping[str, Tensor]) -> Tensor:
        """Returns the mean squared norms of the draws' differences from a full gradient, ``[parameters]``."""
        return torch.stack([self._noise_square(name, own) for name, own in full.items()])

    def own_noise_squares(self, full: Mapping[str, Tensor]) -> Tensor:
        """Returns the same around this process's own full gradient, of the draws of its sweep alone.

        In further sweeps a process has other samples, and their gradient would be another one.
        """
        return self.noise_squares(full) if self._of_first_sweep is None else self._of_first_sweep


def flat_gradient(gradient: Tensor) -> Tensor:
    """Returns what this process has of a gradient, as real numbers in one dimension."""
    own = own_part(gradient)
    dense = own.to_dense() if own.is_sparse else own
    return (torch.view_as_real(dense) if dense.is_complex() else dense).reshape(-1)


def squared(vector: Tensor) -> Tensor:
    """Returns the squared norm in half of the time that ``vector_norm`` takes; autocast, too, leaves it alone."""
    return torch.dot(vector, vector)
