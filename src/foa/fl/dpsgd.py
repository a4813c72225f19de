"""DP-SGD on a site's own data, by Opacus. Needs the extra `fl`.

It trains what a ledger's `NoisyTraining` counts: so many steps, every record in a batch with chance 1 / (number of batches),
each record's gradient clipped, noise added.
It keeps no account itself: debit the ledger first.
"""

import logging
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from opacus import PrivacyEngine
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from foa.fl.guardian import Terms

# Opacus warns of every empty first batch; with small sites they are common, and handled below
logging.getLogger("opacus.data_loader").setLevel(logging.ERROR)

#: Python's filters of warnings belong to the process
_one_at_a_time = threading.Lock()

Loss = Callable[[Tensor, Tensor], Tensor]


def train_privately(
    model: nn.Module, loss: Loss, x: Tensor, y: Tensor, terms: Terms, *, learning_rate: float, seed: int | None = None
) -> None:
    """Train the model in place for `terms.steps` noisy steps of plain SGD.

    Args:
        model: no layer may mix records (no batch norm); Opacus says so if one does.
        loss: mean loss of (prediction, target).
        x: records, one a row.
        y: targets, one a row.
        terms: steps, batch (expected size), noise and clip count; epochs do not.
        learning_rate: of SGD.
        seed: of sampling and noise. Only for benchmarks: noise that others can compute protects nobody.

    Raises:
        ValueError: the terms have no noise, or there are no records.
    """
    if terms.noise_multiplier <= 0:
        raise ValueError("training privately needs a noise multiplier above 0")
    if not len(x):
        raise ValueError("there are no records to train on")
    # a generator of its own: whoever seeds torch's global one, as training scripts do, would know the noise
    generator = torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    loader = DataLoader(TensorDataset(x, y), batch_size=min(terms.batch, len(x)), generator=generator)
    with _one_at_a_time, warnings.catch_warnings():
        # Opacus reminds that its generator is not a cryptographic one: docs/explanation says so too
        warnings.simplefilter("ignore")
        made: Any = PrivacyEngine().make_private(
            module=model,
            optimizer=optimizer,
            data_loader=loader,
            noise_multiplier=terms.noise_multiplier,
            max_grad_norm=terms.clip,
            poisson_sampling=True,
            noise_generator=generator,
        )
    private, noisy, batches = made
    for features, targets in _forever(batches, terms.steps):
        noisy.zero_grad()
        # an empty batch still takes its noisy step: that it was empty must not show
        if len(features):
            loss(private(features.requires_grad_()), targets).backward()
        else:
            _no_gradients(model)
        noisy.step()
    private.remove_hooks()


def _forever(batches: DataLoader[tuple[Tensor, ...]], steps: int) -> Iterator[tuple[Tensor, ...]]:
    done = 0
    while True:
        for batch in batches:
            if done == steps:
                return
            done += 1
            yield batch


def _no_gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad_sample = torch.zeros((0, *parameter.shape))  # type: ignore[attr-defined]
