"""Noise levels that suit a model under a budget of steps: found by search, or by dynamic programming.

A grid is a tuple of n decreasing levels; the step from the last of them to 0 is implied.

- `search.search` minimises any function of the grid without derivatives.
- `path.best_path` chooses, out of many fine levels, those whose steps cost least in sum, exactly. What a step costs is
  its part of the variational bound of ancestral sampling (`bound_costs`), or what Euler's method misses of the
  probability flow in it (`truncation_powers`).

Sources: Chen et al. 2021 (WaveGrad) search a table of betas on a metric, over a grid; Watson et al. 2021 ("Learning to
efficiently sample from diffusion probabilistic models") find the best bound by dynamic programming; Lam et al. 2022
(BDDM) train a network that predicts the table; Sabour et al. 2024 ("Align your steps") bound the divergence of an SDE
solver, which for an exact denoiser is the variational bound but for a constant (docs/schedule-search.md).
"""
