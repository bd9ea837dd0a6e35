"""Looking at built datasets: counts, label statistics, pictures, and a dataset card in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from headposeplus import tables
from headposeplus.boxes.placement import misplaced_fault
from headposeplus.datasets import plots
from headposeplus.datasets.dataset import Dataset, labels_sha256, open_dataset, read_angles, read_fields, read_labels
from headposeplus.datasets.info import INFO, NAMES
from headposeplus.errors import DatasetError, RawDataError
from headposeplus.faults import Fault, plural
from headposeplus.files import write_text
from headposeplus.raw import biwi, manifest
from headposeplus.raw.meshes import mesh_file, read_mesh
from headposeplus.raw.targets import BIWI_PLUS, STILLS, TARGETS, join_task
from headposeplus.rotations import ANGLES, Floats, euler_difference, geodesic, in_plane

CARD = "card.md"
WHAT = {
    "biwi+": "Every Biwi frame with its face box and its pose in the RGB camera.",
    "synhead+": "The SynHead frames in which a face is visible, their poses recomputed to Biwi's angles.",
    "synbiwi+": "For each Biwi frame and each head, the SynHead images that, turned in their plane, come closest.",
    "synhead++": "SynHead+ and SynBiwi+ together; it holds no images of its own.",
    **{name: stills.what for name, stills in STILLS.items()},
}
# What each dataset is made from, and each source's terms and citation.
MADE_FROM = {
    "biwi+": ("biwi",),
    "synhead+": ("synhead",),
    "synbiwi+": ("synhead", "biwi"),
    "synhead++": ("synhead", "biwi"),
    **{name: (name,) for name in STILLS},
}
# Source and target of each task.
TASKS = {"da": ("synbiwi+", BIWI_PLUS), **{join_task("pda", target): ("synhead++", target) for target in TARGETS}}
SOURCES = {
    "biwi": (
        "Biwi Kinect Head Pose Database",
        "made available for non-commercial use such as university research and education",
        "G. Fanelli, M. Dantone, J. Gall, A. Fossati, L. Van Gool: Random Forests for Real Time 3D Face Analysis. "
        "International Journal of Computer Vision 101(3), 437-458, 2013.",
    ),
    "synhead": (
        "SynHead",
        "under the terms that come with its download; read them before you pass images on",
        "J. Gu, X. Yang, S. De Mello, J. Kautz: Dynamic Facial Analysis: From Bayesian Filtering to Recurrent Neural "
        "Network. CVPR 2017.",
    ),
    **{name: (stills.title, stills.terms, stills.citation) for name, stills in STILLS.items()},
}
METHOD = (
    "F. Kuhnke, J. Ostermann: Deep Head Pose Estimation Using Synthetic Images and Partial Adversarial Domain Adaption "
    "for Continuous Label Spaces. ICCV 2019."
)
_MESHES = 8  # frames over which head meshes are drawn


def inspect_data(data: Path, out: Path, biwi_folder: Path | None = None, seed: int = 0, pdf: bool = False) -> str:
    """Write the card and its pictures of the datasets in ``data`` into ``out``; return what there is to say as text.

    ``data`` is the folder of a build, or of one dataset. With raw Biwi, head meshes are drawn over its frames.
    With ``pdf``, the diagrams are there as PDF, too.

    Raises
    ------
    DatasetError
        If there is no dataset, or one is damaged.
    RawDataError
        If raw Biwi is given and is not in its layout.
    """
    datasets = _find(data)
    pictures = _draw(datasets, out, biwi_folder, seed, pdf)
    write_text(out / CARD, _card(datasets, pictures))
    lines = [_counts(datasets, "simple"), "", _labels(datasets, "simple"), ""]
    lines.append("Angles in degrees: convention pyr, RGB camera.")
    lines += ["labels: SHA-256 of ids, poses and boxes, the same on every processor;"]
    lines += ["the card has that of the files, too, which is this build's alone."]
    lines += [str(fault) for dataset in datasets for fault in misplaced_boxes(dataset)]
    lines += [f"{path.stem.replace('_', ' '):16} {path}" for _, path in pictures]
    return "\n".join([*lines, f"{'card':16} {out / CARD}"])


def misplaced_boxes(dataset: Dataset) -> list[Fault]:
    """Return the fault of given boxes that cannot be, if there were any: what the frames have instead."""
    if not dataset.info.misplaced:
        return []
    mend = "these frames have the projected box; mend the file of boxes and build again"
    return [misplaced_fault(dataset.info.misplaced, dataset.folder, mend)]


def _find(data: Path) -> list[Dataset]:
    if (data / INFO).exists():
        return [open_dataset(data)]
    datasets = [open_dataset(data / name) for name in NAMES if (data / name / INFO).exists()]
    if not datasets:
        mend = f"expected folders such as {data / 'biwi+'} of hpp build-datasets"
        raise DatasetError(Fault("no dataset", mend, data))
    return datasets


def _bytes(dataset: Dataset) -> int:
    return sum((dataset.folder / shard.file).stat().st_size for shard in dataset.info.shards)


def _counts(datasets: list[Dataset], layout: str) -> str:
    rows = []
    for dataset in datasets:
        info = dataset.info
        boxes = ", ".join(f"{count:,} {source}" for source, count in info.boxes.items())
        rows.append(
            {
                "dataset": info.name,
                "images": f"{info.rows:,}",
                "crop": f"{dataset.size} px",
                "shards": f"{len(info.shards):,}",
                "MiB": f"{_bytes(dataset) / 2**20:,.1f}",
                "left out": f"{len(info.left_out):,}",
                "boxes": " + ".join(info.joins) if info.joins else boxes,
                "labels": (info.labels_sha256 or labels_sha256(dataset))[:8],
            }
        )
    return tables.table(rows, layout)


def _labels(datasets: list[Dataset], layout: str) -> str:
    rows = []
    for dataset in datasets:
        for column, name in enumerate(ANGLES):
            row = {"dataset": dataset.name if not column else "", "angle": name}
            rows.append(row | {key: tables.rounded(values[column]) for key, values in dataset.info.labels.items()})
    return tables.table(rows, layout)


def _draw(datasets: list[Dataset], out: Path, biwi_folder: Path | None, seed: int, pdf: bool) -> list[tuple[str, Path]]:
    """Draw all pictures that the datasets allow; return a caption and the file of each."""
    by_name = {dataset.name: dataset for dataset in datasets if dataset.info.rows}
    labels: dict[str, Floats] = {}
    for name, dataset in by_name.items():  # a union comes after its parts, which are not read twice
        angles = [labels[part.name] if part.name in labels else read_angles(part) for part in dataset.parts()]
        labels[name] = np.concatenate(angles)
    pictures = []

    def picture(name: str, caption: str) -> Path:
        pictures.append((caption, out / name))
        return out / name

    def diagram(draw: Callable[[Path], None], name: str, caption: str) -> None:
        path = picture(name, caption)
        for kind in (".png", ".pdf") if pdf else (".png",):
            draw(path.with_suffix(kind))

    with_pixels = [dataset for name, dataset in by_name.items() if name != "synhead++"]
    if with_pixels:
        path = picture("crops.png", f"Random crops (seed {seed}) with the axes of their pose")
        plots.sample_crops(with_pixels, path, seed)
    if biwi_folder is not None:
        frames, absent = mesh_frames(biwi.find_root(biwi_folder), seed)
        if frames:
            path = picture("meshes.png", f"Biwi's head meshes, drawn through each sequence's calibration{absent}")
            plots.mesh_overlays(frames, path)
    pairs = [
        (f"{task}: {source} to {target}", labels[source], labels[target])
        for task, (source, target) in TASKS.items()
        if source in labels and target in labels
    ]
    if pairs:
        caption = "Label spaces as densities: source in red, target in blue"
        diagram(partial(plots.label_spaces, pairs), "label_spaces.png", caption)
    if labels:
        diagram(partial(plots.histograms, labels), "histograms.png", "How often each angle occurs")
    if {"synbiwi+", "biwi+"} <= by_name.keys():
        curves, report = read_residuals(by_name["synbiwi+"], by_name["biwi+"]), by_name["synbiwi+"].info.residual
        if report is not None:
            caption = "What remains between SynBiwi+ and the Biwi poses"
            diagram(partial(plots.residuals, curves, report), "residual.png", caption)
    return pictures


def read_residuals(synbiwi: Dataset, biwi_plus: Dataset) -> dict[str, Floats]:
    """Return what remains between each best SynBiwi+ image and its Biwi frame, in degrees, as arrays (n,).

    The keys are ``euler``, ``geodesic``, and both with ``_before``: before the image was turned.
    """
    ids, targets = read_labels(biwi_plus)
    position = {str(name): i for i, name in enumerate(ids)}
    residuals: dict[str, list[Floats]] = {"euler": [], "geodesic": [], "euler_before": [], "geodesic_before": []}
    for fields in read_fields(synbiwi, "id", "label/rotation", "turn", "residual/euler", "residual/geodesic"):
        best = np.array([name.count("/") == 3 for name in fields["id"]])
        frames = [str(name).removeprefix("syn").rsplit("/", 1)[0] for name in fields["id"][best]]
        wanted = targets[[position[frame] for frame in frames]]
        unturned = in_plane(-fields["turn"][best]) @ fields["label/rotation"][best]
        residuals["euler"].append(fields["residual/euler"][best])
        residuals["geodesic"].append(fields["residual/geodesic"][best])
        residuals["euler_before"].append(np.abs(euler_difference(unturned, wanted)).mean(axis=1))
        residuals["geodesic_before"].append(geodesic(unturned, wanted))
    return {name: np.concatenate(values) for name, values in residuals.items()}


def mesh_frames(root: Path, seed: int = 0) -> tuple[list[plots.MeshFrame], str]:
    """Return some frames of raw Biwi with the mesh of their subject, and a remark on sequences that are not shown.

    One random frame each of sequences spread over those that have a mesh, ``NN.obj`` beside the sequence's folder.
    """
    rng = np.random.default_rng(seed)
    names, groups = biwi.sequences(root), manifest.calibration_groups(manifest.read())
    having = [name for name in names if mesh_file(root, name).is_file()]
    chosen = [having[i] for i in np.unique(np.linspace(0, len(having) - 1, _MESHES).astype(int))] if having else []
    frames, faults = [], []
    for name in chosen:
        try:
            vertices, triangles = read_mesh(mesh_file(root, name))
            sequence = biwi.open_sequence(root, name, groups.get(name, ""))
            if not sequence.frames:
                continue
            frame = sequence.frames[int(rng.integers(len(sequence.frames)))]
            pose = sequence.read_pose(frame.pose)
            image = np.ascontiguousarray(sequence.read_image(frame)[..., :3])
        except RawDataError as error:
            faults.append(error.fault)
            continue
        frames.append(plots.MeshFrame(frame.id, image, vertices, triangles, pose, sequence.camera))
    remarks = []
    if lacking := len(names) - len(having):
        remarks.append(plural(lacking, f"of {len(names)} sequences has none", f"of {len(names)} sequences have none"))
    if faults:
        remarks.append(f"{len(faults)} left out, the first: {faults[0]}")
    return frames, f" ({'; '.join(remarks)})" if remarks else ""


def _card(datasets: list[Dataset], pictures: list[tuple[str, Path]]) -> str:
    parts = [
        "# Dataset card",
        "",
        "Built by headposeplus "
        + ", ".join(sorted({dataset.info.toolkit for dataset in datasets}))
        + f", after {METHOD} Angles are pitch, yaw and roll in degrees, convention `pyr`, in the RGB camera (x right, "
        "y down, z forward).",
        "",
        _counts(datasets, "github"),
        "",
        _labels(datasets, "github"),
    ]
    for dataset in datasets:
        parts += ["", f"## {dataset.name}", "", WHAT[dataset.name], "", *_facts(dataset)]
    parts += ["", "## Pictures"]
    for caption, path in pictures:
        parts += ["", f"![{caption}]({path.name})", "", f"{caption}."]
    used = {key for dataset in datasets for key in MADE_FROM[dataset.name]}
    parts += ["", "## Sources, terms and citations", ""]
    for key, (name, terms, citation) in SOURCES.items():
        if key in used:
            parts.append(f"- **{name}**: {terms}. Cite: {citation}")
    parts.append(f"- **The datasets' construction**: cite {METHOD}")
    parts += [
        "",
        "Crops derived from a source are under that source's terms. Photographs show identifiable people: use them for "
        "research on head pose, to which those of Biwi agreed, and not to identify anyone.",
    ]
    return "\n".join(parts) + "\n"


def _facts(dataset: Dataset) -> list[str]:
    """Return the lines of a dataset's section of the card."""
    info = dataset.info
    lines = [f"- parameters: {', '.join(f'{key} {value}' for key, value in info.parameters.to_json().items())}"]
    if info.render_order_from is not None:
        lines.append(f"- rendering order: {info.parameters.render_order}, {info.render_order_from}")
    if info.face_not_visible is not None:
        lines.append(f"- frames without a visible face, which are not part of it: {info.face_not_visible:,}")
    if info.beyond:
        lines.append(f"- images left out for {STILLS[info.name].limit}: {len(info.beyond):,}: {'; '.join(info.beyond)}")
    if info.residual is not None:
        for measure, errors in (("euler", info.residual.euler), ("geodesic", info.residual.geodesic)):
            after, before = errors.after, errors.before
            lines.append(
                f"- {measure} residual to the Biwi poses in degrees: mean {after.mean:.2f}, median "
                f"{after.median:.2f}, 95th percentile {after.p95:.2f} (before the turn: mean "
                f"{before.mean:.2f}, median {before.median:.2f}, 95th percentile {before.p95:.2f})"
            )
    lines.append(f"- made from: {', '.join(SOURCES[key][0] for key in MADE_FROM[info.name])}")
    listed = ", listed in dataset.json" if info.left_out else ""
    lines.append(f"- damaged raw files left out: {len(info.left_out):,}{listed}")
    if info.misplaced:
        lines.append(
            f"- given boxes that miss the head, projected instead: {len(info.misplaced):,}, listed in dataset.json"
        )
    labels = info.labels_sha256 or labels_sha256(dataset)
    lines.append(f"- ids, poses and boxes, the same on every processor: SHA-256 `{labels}`")
    lines.append(f"- content, of this build's files alone: SHA-256 `{info.content_sha256}`")
    return lines
