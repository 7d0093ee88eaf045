"""Reports and draws, drawn.

Every function makes one figure and returns it with its axes, ``(fig, ax)``; with ``ax`` it draws to axes of yours
(:func:`noise_density` to a pair of them). New
figures belong to the caller: pyplot does not know of them, so nothing has to be closed and no window opens. In a
notebook, let ``fig`` be the last line of a cell, after ``%matplotlib inline``; elsewhere, ``fig.savefig("name.png")``.
Legends stand to the right of the axes: a figure of yours leaves them room if it is made with ``layout="constrained"``.
"""

from __future__ import annotations

from .alpha_across_runs import alpha_across_runs
from .alpha_by_minibatch_size import alpha_by_minibatch_size
from .alpha_heatmap import alpha_heatmap
from .alpha_over_steps import alpha_over_steps
from .coordinate_alphas import coordinate_alphas
from .iterate_alphas import iterate_alphas
from .noise_density import noise_density
from .noise_norms import noise_norms
from .noise_qq import noise_qq
from .sharpness_over_steps import sharpness_over_steps
from .weight_spectrum import weight_spectrum

__all__ = [
    "alpha_across_runs",
    "alpha_by_minibatch_size",
    "alpha_heatmap",
    "alpha_over_steps",
    "coordinate_alphas",
    "iterate_alphas",
    "noise_density",
    "noise_norms",
    "noise_qq",
    "sharpness_over_steps",
    "weight_spectrum",
]
