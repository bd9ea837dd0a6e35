"""Made-up photographs in the raw layout of AFLW2000-3D."""

import cv2
import numpy as np
from scipy.io import savemat


def write_photograph(folder, number, angles, scale=1.2e-3, nose=(230, 240)):
    """Write image and label of a made-up AFLW2000-3D photograph: a smooth picture, and angles in degrees (``ypr``)."""
    rng = np.random.default_rng(number)
    picture = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (450, 450), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / f"image{number:05d}.jpg"), picture)
    landmarks = rng.uniform(-60, 60, (3, 68)) + np.array([[*nose, 0]]).T
    landmarks[:2, 30] = nose
    pose = np.array([[*np.deg2rad(angles), 230, 220, -90, scale]], np.float32)
    savemat(folder / f"image{number:05d}.mat", {"Pose_Para": pose, "pt3d_68": landmarks.astype(np.float32)})


# Pitch, yaw and roll in degrees of the photographs of ``photographs``; the angles of the last two are beyond 99.
PHOTOGRAPHS = {
    2: (0, 0, 0), 4: (10, -20, 5), 6: (-30, 40, -10), 8: (5, 80, 0), 13: (-12, -75, 20), 21: (98, 60, -98),
    22: (20, 10, 30), 35: (-8, 3, -40), 40: (100, 10, 5), 41: (-300, 95, 297),
}  # fmt: skip
