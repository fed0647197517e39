"""Noise schedules optimized for a model and a number of steps, by search or dynamic programming.

A grid is a tuple of n decreasing levels; the step from the last one to 0 is implied.

- `search.search` minimizes any function of the grid without derivatives.
- `path.best_path` chooses, among many fine levels, the grid of least total cost, exactly. The cost of a step is its
  term of the variational bound of ancestral sampling (`bound_costs`), or the deviation of an Euler step from the
  probability flow (`truncation_powers`).

Sources: Chen et al. 2021 (WaveGrad) search a table of betas on a metric, over a grid; Watson et al. 2021 ("Learning to
efficiently sample from diffusion probabilistic models") find the best bound by dynamic programming; Lam et al. 2022
(BDDM) train a network that predicts the table; Sabour et al. 2024 ("Align your steps") bound the divergence of an SDE
solver, which for an exact denoiser is the variational bound but for a constant (docs/schedule-search.md).
"""
