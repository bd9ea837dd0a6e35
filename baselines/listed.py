"""What there is, to read: the methods without what they import, since torch alone takes seconds."""

from __future__ import annotations

from typing import NamedTuple


class ListedMethod(NamedTuple):
    """A method in words: whether it has a second stage, whether it sees target images, and what it does."""

    name: str
    trains: bool
    uses_target: bool
    summary: str


METHODS = (
    ListedMethod("source-only", False, False, "the first stage alone, without a target image"),
    ListedMethod(
        "source-only-mixed", False, True, "the first stage with batch statistics of both domains, nothing trained"
    ),
    ListedMethod(
        "control-uniform",
        True,
        True,
        "lambda = 0: a second stage without an adversary, with batch statistics of both domains",
    ),
    ListedMethod("dann", True, True, "adversarial alignment, every source sample alike (Ganin et al. 2016)"),
    ListedMethod("pada-like", True, True, "DANN with the paper's Eq. 3 as source weights"),
    ListedMethod("control-pada-like", True, True, "lambda = 0 with PADA-like's sampling: its resampling alone"),
    ListedMethod(
        "padaco", True, True, "DANN with source samples drawn by label-space neighbours (Kuhnke & Ostermann 2019)"
    ),
    ListedMethod("control-padaco", True, True, "lambda = 0 with PADACO's sampling: its resampling alone"),
    ListedMethod(
        "padaco-updated",
        True,
        True,
        "PADACO with weights updated every epoch, held by momentum, a gate and a trust region",
    ),
    ListedMethod(
        "padaco-updated-plainly",
        True,
        True,
        "PADACO with weights computed anew every epoch and not held, for comparison",
    ),
    ListedMethod(
        "adabn", False, True, "the first stage with the target's batch statistics, nothing trained (Li et al. 2018)"
    ),
    ListedMethod(
        "coral", True, True, "equal feature covariances, a negative control for regression (Sun & Saenko 2016)"
    ),
    ListedMethod("dare-gram", True, True, "alignment of the features' inverse Gram matrices (Nejjar et al. 2023)"),
    ListedMethod("jumbot", True, True, "unbalanced optimal transport of mini-batches (Fatras et al. 2021)"),
    ListedMethod(
        "wasserstein-weights",
        True,
        True,
        "source samples drawn by a critic's weights, after AR for classes (Gu et al. 2021)",
    ),
    ListedMethod(
        "rcr",
        True,
        True,
        "consistency of the poses of turned and mirrored images, after Kuhnke & Ostermann (2021, 2023)",
    ),
    ListedMethod("rcrw", True, True, "rcr with PADACO's sampling"),
    ListedMethod(
        "mean-teacher",
        True,
        True,
        "a mean teacher for changed and mirrored target images, after Tarvainen & Valpola (2017)",
    ),
)
