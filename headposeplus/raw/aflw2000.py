"""Reader of raw AFLW2000-3D (Zhu et al., CVPR 2016): photographs, each with a fitted 3D face in a ``.mat``.

``Pose_Para`` (1, 7) of a ``.mat`` holds pitch, yaw and roll in radians, convention ``ypr``, then the translation in
pixels and the scale in pixels per micrometre; ``pt3d_68`` (3, 68) holds the landmarks in pixels, hidden ones as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headposeplus.errors import RawDataError
from headposeplus.faults import RESTORE, Fault, said, unreadable
from headposeplus.files import read_file
from headposeplus.raw.matlab import read_arrays
from headposeplus.raw.stills import StillLabel, StillSet
from headposeplus.rotations import ANGLES, Floats, to_matrix

CONVENTION = "ypr"
LIMIT = 99.0  # degrees: the literature tests on the images whose three angles are within it
PIXELS = (450, 450)
_SHAPES = {"Pose_Para": (1, 7), "pt3d_68": (3, 68)}
_NOSE = 30  # the landmark at the tip of the nose
# From the tip of the nose to what Biwi calls the head's centre, in the head's frame in mm, on Biwi's mesh 01.obj.
NOSE_TO_CENTRE = np.array([0.3, -0.6, 56.4])
_MICROMETRES = 1000.0  # in a millimetre
_SCALES = (0.1, 50.0)  # pixels per millimetre between which a head's scale lies


def _read_mat(path: Path) -> dict[str, Floats]:
    """Return the arrays of :data:`_SHAPES` in a ``.mat``; raises RawDataError if it is damaged or lacks one."""
    expected = f"a MATLAB file with {' and '.join(f'{name} {shape}' for name, shape in _SHAPES.items())}"
    try:
        arrays = read_arrays(read_file(path), _SHAPES)
    except OSError as error:
        raise RawDataError(unreadable(path, error, expected)) from error
    except ValueError as error:
        raise RawDataError(Fault(f"damaged ({said(error)}); expected {expected}", RESTORE, path)) from error
    for name, shape in _SHAPES.items():
        if name not in arrays:
            raise RawDataError(Fault(f"holds no {name}; expected {expected}", RESTORE, path))
        if arrays[name].shape != shape:
            raise RawDataError(Fault(f"{name} is {arrays[name].shape}; expected {shape}", RESTORE, path))
        if not np.isfinite(arrays[name]).all():
            raise RawDataError(Fault(f"{name} holds numbers that are not finite", RESTORE, path))
    return arrays


def read_label(path: Path) -> StillLabel:
    """Return the label of a ``.mat``; the head's centre follows from the tip of the nose.

    Raises
    ------
    RawDataError
        If the file is missing, damaged, lacks ``Pose_Para`` or ``pt3d_68``, or these can be of no face in the image.
    """
    arrays = _read_mat(path)
    pose, nose = arrays["Pose_Para"][0], arrays["pt3d_68"][:2, _NOSE]
    angles, scale = np.rad2deg(pose[:3]), float(pose[6]) * _MICROMETRES
    rotation = to_matrix(angles, CONVENTION)
    centre = nose + scale * (rotation @ NOSE_TO_CENTRE)[:2]
    if (np.abs(angles) > LIMIT).any():  # a fit that went wrong, which may have a scale below 0
        beyond = ", ".join(f"{name} {angle:.1f}" for name, angle in zip(ANGLES, angles, strict=True))
        return StillLabel(rotation, centre, scale, beyond)
    if not _SCALES[0] <= scale <= _SCALES[1]:
        what = f"the scale of Pose_Para is {scale:.3g} pixels per millimetre; expected {_SCALES[0]} to {_SCALES[1]}"
        raise RawDataError(Fault(what, RESTORE, path))
    if (nose < 0).any() or (nose > PIXELS).any():
        what = f"pt3d_68 has the nose at ({nose[0]:.0f}, {nose[1]:.0f}); expected a place in the image"
        raise RawDataError(Fault(what, RESTORE, path))
    return StillLabel(rotation, centre, scale)


AFLW2000 = StillSet(
    name="aflw2000",
    title="AFLW2000-3D",
    stem="image{:05d}",
    image=".jpg",
    label=".mat",
    pixels=PIXELS,
    convention=CONVENTION,
    limit=f"an angle (convention ypr) beyond {LIMIT:.0f} degrees, as in the literature",
    box_source="landmarks",
    what="AFLW2000-3D's images whose three angles are within 99 degrees, with boxes from their landmarks.",
    terms="made available for non-commercial research; its images come from AFLW, under AFLW's terms",
    citation="X. Zhu, Z. Lei, X. Liu, H. Shi, S. Z. Li: Face Alignment Across Large Poses: A 3D Solution. CVPR 2016.",
    read_label=read_label,
)
