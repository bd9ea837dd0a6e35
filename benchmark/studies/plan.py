"""The plan of the comparison on miniatures, older than its records: what is compared, on what, and how it is judged.

A replicate is a draw from a pool of miniatures (:mod:`benchmark.studies.pool`): ten heads and twenty subjects with
their light, rooms and cameras. All methods of a draw share it, their seed and their first stage, so they are compared
on common random numbers. The settings of all methods were fixed on other people (:data:`FIXED_ON`).
"""

from __future__ import annotations

from typing import NamedTuple

SCALE, SIZE, PRESET = "study", 32, "miniature"
POSES = 0  # the seed of all poses
PEOPLE = (0, 1, 2, 3)  # the members of the pool: 40 heads and 80 subjects
FIXED_ON = (100, 101)  # members of another pool, by whom the settings were fixed
DRAWS = tuple(range(1000, 1048))
LOOKS = (12, 24, 48)  # after how many draws the claims are judged
# What each look may spend of the error of 5 %: the increments of Pocock's spending function, alpha ln(1 + (e - 1) t)
# (Lan & DeMets 1983), t the share of the draws. A look tests at its own share alone, which keeps the sum of all.
SPENT = (0.0179, 0.0131, 0.0190)
SETTINGS = {"paper": "none", "augmented": "all"}  # what is done to the source's images
STRONGEST = "mean-teacher"  # its lambda was fixed with the other settings; it comes with augmentation
METHODS = {
    "da": ("source-only", "source-only-mixed", "dann", "padaco"),
    "pda": ("source-only", "source-only-mixed", "dann", "pada-like", "padaco"),
}
ANGLES = ("pitch", "yaw", "roll")
PARTS = {"pitch": ("pitch",), "yaw and roll": ("yaw", "roll")}


class Claim(NamedTuple):
    """A claim: on a task, one method's error is below another's, or below a share of it.

    ``primary`` claims are judged as a family of their own by Holm's method, the others as a second one. ``better`` and
    ``worse`` name a method and, after colons, its setting where that is not the one that is looked at, and ``ray``
    where it is scored with the viewing ray.
    """

    text: str
    task: str
    better: str
    worse: str
    primary: bool = False
    share: float = 1.0


# Whatever is compared with the first stage is compared under batch statistics of both domains.
FIRST = "source-only-mixed"
CLAIMS = (
    Claim("da: DANN beats source-only", "da", "dann", FIRST),
    Claim("da: PADACO beats source-only", "da", "padaco", FIRST),
    Claim("da: DANN beats PADACO", "da", "dann", "padaco"),
    Claim("pda: DANN is worse than source-only", "pda", FIRST, "dann", primary=True),
    Claim("pda: PADA-like is worse than source-only", "pda", FIRST, "pada-like"),
    Claim("pda: PADACO beats source-only", "pda", "padaco", FIRST, primary=True),
    Claim("pda: PADACO beats DANN", "pda", "padaco", "dann", primary=True),
    Claim("pda: PADACO beats PADA-like", "pda", "padaco", "pada-like"),
)
# Of the strongest method, with augmentation; they are never judged beside the paper's claims.
OWN_CLAIMS = tuple(
    Claim(f"{task}: {STRONGEST} is more than a tenth below {words}", task, f"{STRONGEST}:augmented", worse, share=0.9)
    for task in METHODS
    for worse, words in (("padaco:paper", "PADACO"), ("padaco:augmented", "PADACO with the same augmentation"))
)
# Added when nine draws were known, which said that those would fail and that the viewing ray, which needs no label, is
# worth more than any method: judged once, on six later draws alone. The draws are new, most of their people are not.
LATER = DRAWS[12:18]
LATER_CLAIMS = tuple(
    Claim(
        f"{task}: {STRONGEST} with the viewing ray is {words}", task, f"{STRONGEST}:augmented:ray", worse, share=share
    )
    for task in METHODS
    for worse, share, words in (
        ("padaco:paper", 0.9, "more than a tenth below PADACO"),
        ("padaco:augmented", 0.9, "more than a tenth below PADACO with the same augmentation"),
        ("padaco:augmented:ray", 1.0, "below PADACO with the same augmentation and the viewing ray"),
    )
)
