"""The report of a score: the page of its entry, with a scatter of the label space and the worst frames' pictures."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from benchmark.board import site
from benchmark.board.plots import Points
from benchmark.scoring.metrics import frame_errors
from benchmark.scoring.score import Scored
from headposeplus.datasets.dataset import Dataset, read_fields
from headposeplus.datasets.plots import draw_pose, tag
from headposeplus.files import write_text
from headposeplus.images import Image, decode
from headposeplus.rotations import Floats, from_matrix

WORST = 12
_SIDE = 200  # pixels of a picture


def write_report(path: Path, scored: Scored) -> None:
    """Write the report of files that were scored as one HTML page that needs nothing else.

    The pictures of the worst frames, by MAE over the seeds, are there where the labels come from a built dataset: each
    crop with the axes of its true pose, and with those of its predicted one (of the first seed), dashed.
    """
    labels, convention = scored.reference.labels, scored.reference.protocol.convention
    assert labels is not None
    truth, predicted = labels.rotations, scored.rotations[0]
    errors = [frame_errors(rotations, truth, convention) for rotations in scored.rotations]
    mae = np.mean([error.angles.mean(axis=1) for error in errors], axis=0)
    geodesic = np.mean([error.geodesic for error in errors], axis=0)
    worst = np.argsort(-mae, kind="stable")[:WORST]
    crops = {} if labels.dataset is None else read_crops(labels.dataset, set(labels.ids[worst].tolist()))
    true_angles, predicted_angles = from_matrix(truth, convention), from_matrix(predicted, convention)
    frames = [
        site.WorstFrame(
            id=str(labels.ids[row]),
            picture=_picture(crops.get(str(labels.ids[row])), truth[row], predicted[row]),
            true=true_angles[row].tolist(),
            predicted=predicted_angles[row].tolist(),
            mae=float(mae[row]),
            geodesic=float(geodesic[row]),
        )
        for row in worst
    ]
    closeup = site.Closeup(frames, Points(true_angles[:, 1], true_angles[:, 0], mae), scored.lacks)
    write_text(path, site.entry_page(scored.entry, closeup))


def read_crops(dataset: Dataset, ids: set[str]) -> dict[str, Image]:
    """Return the crops (size, size, 3) of some frames of a dataset, by id."""
    crops = {}
    for fields in read_fields(dataset, "id", "image/offset", "image/bytes"):
        offset = fields["image/offset"]
        for row, name in enumerate(fields["id"].tolist()):
            if name in ids:
                crops[name] = decode(fields["image/bytes"][offset[row] : offset[row + 1]])
    return crops


def _picture(crop: Image | None, truth: Floats, predicted: Floats) -> str:
    """Return a JPEG as a data URI: a crop with its true pose, beside it with its predicted one, dashed, or nothing."""
    if crop is None:
        return ""
    large = cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    true = tag(draw_pose(large, truth), "true")
    both = np.concatenate((true, tag(draw_pose(large, predicted, dashed=True), "predicted")), axis=1)
    data = cv2.imencode(".jpg", cv2.cvtColor(both, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
