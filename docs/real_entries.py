"""Writes the submissions of results/board from predictions that were kept as arrays.

FSA-Net's and MediaPipe's predictions on Biwi's sequence 19 and on AFLW2000-3D lie as npz files in one folder, as
docs/fsanet_predictions.py and docs/mediapipe_predictions.py give them for the frames that have a face::

    python docs/real_entries.py PREDICTIONS SUBMISSIONS
    hpp scoreboard add SUBMISSIONS/fsanet-biwi.csv --protocol biwi+/cross@1 --subset biwi/sequence-19 \
      --labels Biwi_plus.npz --scoreboard results/board
    hpp scoreboard add SUBMISSIONS/mediapipe-biwi.csv --protocol biwi+/cross@1 --subset biwi/sequence-19 \
      --labels Biwi_plus.npz --scoreboard results/board
    hpp scoreboard add SUBMISSIONS/fsanet-aflw2000.csv --protocol aflw2000/cross@1 \
      --labels AFLW2000 --scoreboard results/board
"""

import importlib.util
import sys
from pathlib import Path

import msgspec
import numpy as np

from benchmark.scoring.submission import write_predictions
from headposeplus.raw import subsets
from headposeplus.raw.targets import parse_frame


def script(name):
    """Return a script that lies beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_frames(names, angles, frames):
    """Return angles (n, 3) of frames by id, NaN where the names (m,) lack one."""
    rows = {parse_frame(str(name)): row for name, row in zip(names, angles, strict=True)}
    return np.array([rows.get(frame, np.full(3, np.nan)) for frame in frames])


def write(folder, out):
    """Write the three submissions."""
    out.mkdir(parents=True, exist_ok=True)
    fsanet, mediapipe = script("fsanet_predictions").ABOUT, script("mediapipe_predictions")
    sequence = subsets.find("biwi/sequence-19").ids
    kept = np.load(folder / "fsanet_onnx_biwi.npz")
    angles = of_frames(kept["images"], kept["pred_ypr"][:, [1, 0, 2]], sequence)
    write_predictions(out / "fsanet-biwi.csv", sequence, angles, fsanet)
    kept = np.load(folder / "mediapipe_biwi.npz")
    angles = of_frames(kept["images"], kept["pyr"], sequence)
    missed = int(np.isnan(angles).any(axis=1).sum())
    notes = f"{mediapipe.ABOUT.notes} These are {missed} of {len(sequence)}."
    about = msgspec.structs.replace(mediapipe.ABOUT, notes=notes)
    write_predictions(out / "mediapipe-biwi.csv", sequence, mediapipe.filled(angles), about)
    kept = np.load(folder / "fsanet_onnx_aflw2000.npz")
    frames = sorted(parse_frame(str(name)) for name in kept["ids"])
    angles = of_frames(kept["ids"], kept["pred_ypr"][:, [1, 0, 2]], frames)
    write_predictions(out / "fsanet-aflw2000.csv", frames, angles, fsanet)


if __name__ == "__main__":
    if len(sys.argv) != 3 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    write(*map(Path, sys.argv[1:]))
