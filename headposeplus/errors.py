"""Errors that a user can mend. Each holds a fault, or its words alone."""

from __future__ import annotations

from headposeplus.faults import Fault


class HeadposeError(Exception):
    """Base of every error whose cause is in the user's input; shown as one line, without a traceback."""

    def __init__(self, fault: Fault | str) -> None:
        super().__init__(fault)

    @property
    def fault(self) -> Fault:
        """What is wrong, as fields."""
        fault = self.args[0]
        return fault if isinstance(fault, Fault) else Fault(str(fault))


class RawDataError(HeadposeError):
    """A raw Biwi or SynHead folder is not as its layout says."""


class ImageError(RawDataError):
    """One image is unreadable or damaged; a build leaves it out, counts it and lists it."""


class DatasetError(HeadposeError):
    """A built dataset is missing, incomplete, or was made with other parameters."""


class OrderError(HeadposeError):
    """The rendering order of SynHead cannot be inferred from the images at hand."""


class SubmissionError(HeadposeError):
    """A file of predictions cannot be scored."""


class ChoiceError(SubmissionError):
    """Several protocols fit predictions: a line for each says when it is meant, and how it is named.

    ``also`` says what else is to be mended; it may be empty.
    """

    def __init__(self, fault: Fault, lines: tuple[str, ...] = (), also: str = "") -> None:
        super().__init__(fault)
        self.args, self.lines, self.also = (fault, lines, also), lines, also

    def __str__(self) -> str:
        """Return all as one line."""
        told = [*self.lines, *([self.also] if self.also else [])]
        return f"{self.fault}: {'; '.join(told)}" if told else str(self.fault)


class SuspicionWarning(UserWarning):
    """Predictions look odd: another reading of them, or another order, fits the labels much better."""


class TrainingError(HeadposeError):
    """A training run cannot start or go on."""
