"""PyTorch's time for the training steps that `parsimony bench` times on matrices.

Every case bears the name of its counterpart in `parsimony bench` and is one
step (forward, backward, update) in the form PyTorch's own documentation
teaches: leaf tensors, an optimiser from torch.optim, loss.backward().  Of the
equivalent spellings of the loss the fastest one is used.  Times and thread
counts: harness.py.
"""

import math
import sys
from functools import partial

from harness import main, torch

import torch.nn.functional as F

DEPTH = 3
LEARNING_RATE = 1e-3  # of 0.5 * the sum of squares; stable for every case below
GAMMA = 1e-2  # outer factors learn at GAMMA * LEARNING_RATE
INIT_SCALE = 1e-3
TARGET_RANK = 3
OBSERVED = 0.2


def orthonormal(rows, cols):
    return torch.linalg.qr(torch.randn(rows, cols))[0]


def low_rank_target(d):
    scale = 2 * math.sqrt(d)  # the leading singular values of a Gaussian d x d matrix
    return scale * orthonormal(d, TARGET_RANK) @ orthonormal(d, TARGET_RANK).T


def scaled_orthogonal_factors(d):
    return [(INIT_SCALE * orthonormal(d, d)).requires_grad_() for _ in range(DEPTH)]


def training_step(optimizer, loss):
    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        return value

    return step


def factorisation_step(d):
    """0.5 ||W3 W2 W1 - Phi||_F^2; also the compressed step, where d is the core width."""
    w1, w2, w3 = factors = scaled_orthogonal_factors(d)
    target = low_rank_target(d)
    optimizer = torch.optim.SGD(factors, lr=LEARNING_RATE)
    return training_step(
        optimizer, lambda: 0.5 * F.mse_loss(w3 @ w2 @ w1, target, reduction="sum"))


def completion_problem(d):
    mask = (torch.rand(d, d) < OBSERVED).double()
    return mask, mask * low_rank_target(d)


def completion_step(d):
    """0.5 ||mask * (W3 W2 W1 - Phi)||_F^2."""
    w1, w2, w3 = factors = scaled_orthogonal_factors(d)
    mask, observed = completion_problem(d)
    optimizer = torch.optim.SGD(factors, lr=LEARNING_RATE)
    return training_step(
        optimizer, lambda: 0.5 * F.mse_loss(mask * (w3 @ w2 @ w1), observed, reduction="sum"))


def compressed_completion_step(d, r_hat):
    """0.5 ||mask * (U C3 C2 C1 V^T - Phi)||_F^2 with two learning rates."""
    k = 2 * r_hat
    left = orthonormal(d, k).requires_grad_()
    right = orthonormal(d, k).requires_grad_()
    c1, c2, c3 = cores = [(INIT_SCALE * torch.eye(k)).requires_grad_() for _ in range(DEPTH)]
    mask, observed = completion_problem(d)
    optimizer = torch.optim.SGD(
        [{"params": cores}, {"params": [left, right], "lr": GAMMA * LEARNING_RATE}],
        lr=LEARNING_RATE)
    return training_step(optimizer, lambda: 0.5 * F.mse_loss(
        mask * (left @ c3 @ c2 @ c1 @ right.T), observed, reduction="sum"))


def gemm(d, dtype):
    a, b = torch.randn(d, d, dtype=dtype), torch.randn(d, d, dtype=dtype)
    out = torch.empty(d, d, dtype=dtype)
    return lambda: torch.mm(a, b, out=out)


CASES = {
    **{f"dmf_step/full/{d}": partial(factorisation_step, d) for d in (30, 100, 300, 1000)},
    **{f"dmf_step/compressed/{k}": partial(factorisation_step, k) for k in (6, 20)},
    "completion_step/full/1000": partial(completion_step, 1000),
    **{f"completion_step/compressed/1000/{r_hat}": partial(compressed_completion_step, 1000, r_hat)
       for r_hat in (5, 10)},
    "gemm/f64/1000": partial(gemm, 1000, torch.float64),
    "gemm/f32/1024": partial(gemm, 1024, torch.float32),
}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    sys.exit(main(CASES, __doc__))
