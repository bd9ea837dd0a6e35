"""The tables of ``docs/data.md``: where the data come from, and what a build and the paper's training take.

Where figures were measured, they come from ``results/``; the rest is computed from them and from the manifest.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from benchmark.board.markdown import github
from benchmark.board.published import published_rows
from benchmark.loaders.open import GPU_SHARE, RAM_SHARE
from benchmark.training.presets import PRESETS, TASKS, Kind
from benchmark.upkeep.bench_build import MATCHED, BuildFigures
from benchmark.upkeep.bench_train import TrainFigures
from benchmark.upkeep.real_frames import RealFrames
from headposeplus.datasets.dataset import Layout
from headposeplus.raw import manifest
from headposeplus.raw.synhead import HEADS
from headposeplus.raw.targets import BIWI_PLUS

TASK = "pda"
TABLE = "Kuhnke & Ostermann ICCV 2019 Table 1"  # by the name that the published results give their source
MOST_HOURS = 1.0  # that all of it should take


class Copy(NamedTuple):
    """A copy of some data: where it is, who gives that address, how large it is by whose word, and what it holds."""

    name: str
    link: str
    given_by: str
    size: str
    holds: str


_FSA_ISSUE = "https://github.com/shamangary/FSA-Net/issues"
_HF_ISSUE = "https://github.com/huggingface/datasets/issues/3822"
_HF = "https://huggingface.co/datasets/ETHZurich/biwi_kinect_head_pose"
_UNITALKER = "https://github.com/X-niper/UniTalker/issues/43"
_KUHNKE = "https://github.com/kuhnkeF/headposeplus"
_6DREPNET = "https://github.com/thohemp/6DRepNet"

COPIES: Mapping[str, tuple[Copy, ...]] = {
    "biwi": (
        Copy(
            "the archive `kinect_head_pose_db.tgz` at ETH",
            "https://data.vision.ee.ethz.ch/cvl/gfanelli/kinect_head_pose_db.tgz",
            f"[a request for it]({_HF_ISSUE})",
            f"6.01 GB packed ([card]({_HF}))",
            "`hpdb/NN` with `_rgb.png`, `_depth.bin`, `_pose.txt`, `rgb.cal` and `depth.cal`, and `hpdb/NN.obj`: all "
            "that is read",
        ),
        Copy(
            "ETH's page of the database",
            "https://data.vision.ee.ethz.ch/cvl/gfanelli/head_pose/head_forest.html#db",
            f"[Kuhnke]({_KUHNKE})",
            "",
            f"the database's own page; [told to be gone]({_FSA_ISSUE}/68) since 2021",
        ),
        Copy(
            "ETH's list of datasets",
            "https://icu.ee.ethz.ch/research/datsets.html",
            f"[6DRepNet]({_6DREPNET})",
            "",
            f"whom to ask; in 2022 [without a download]({_HF_ISSUE})",
        ),
        Copy(
            "Kaggle, `kmader/biwi-kinect-head-pose-database`",
            "https://www.kaggle.com/datasets/kmader/biwi-kinect-head-pose-database",
            f"[a reader of another project]({_UNITALKER})",
            "not said",
            "[the folders](https://github.com/asw91666/TRG-Release/issues/6) `faces_0` (as `hpdb`), `db_annotations` "
            "and `head_pose_masks`: all that is read; needs an account",
        ),
        Copy(
            "fast.ai, `biwi_head_pose.tgz`",
            "https://s3.amazonaws.com/fast-ai-imagelocal/biwi_head_pose.tgz",
            "[fastai](https://github.com/fastai/fastai), in `fastai/data/external.py`",
            "430 MiB packed ([FastAI.jl](https://github.com/FluxML/FastAI.jl))",
            "`NN` with `_rgb.jpg`, `_pose.txt` and `rgb.cal`, and `NN.obj`, no depth: enough for a build, though JPEG "
            "has changed the pixels",
        ),
        Copy(
            "Hugging Face, `ETHZurich/biwi_kinect_head_pose`",
            _HF,
            f"[a reader of another project]({_UNITALKER})",
            "",
            "no images: a script that fetches ETH's archive",
        ),
        Copy(
            "FSA-Net's `data.zip`, with `BIWI_noTrack.npz`",
            "https://drive.google.com/file/d/1j6GMx33DCcbUOS8J3NHZ-BMHgk7H-oC_/view",
            f"[FSA-Net]({_FSA_ISSUE}/68)",
            "not said",
            "small crops of the frames that a detector found, with angles, as networks of the FSA-Net line read them: "
            "no raw frames, so nothing to build from",
        ),
    ),
    "Biwi_plus.npz": (
        Copy(
            "`data/Biwi_plus.npz` in the repository of its authors",
            _KUHNKE,
            "its README",
            "2.51 MB (measured)",
            "labels in the RGB camera and checked boxes of all 15,678 frames; `Biwi_plus_non_cal.npz` beside it has "
            "the depth camera's. Read by `--boxes` and `--labels`",
        ),
    ),
    "synhead": (
        Copy(
            "NVIDIA's page of the paper",
            "https://research.nvidia.com/publication/"
            "2017-07_dynamic-facial-analysis-bayesian-filtering-recurrent-neural-network",
            "[Replicantface](https://github.com/DaWelter/replicantface)",
            "",
            "the paper, and who to ask",
        ),
        Copy(
            "the form by which NVIDIA gives it out",
            "https://docs.google.com/forms/d/e/1FAIpQLSe6EP2FznQmlIf-QP8VJ638p9Da4wiZz2u-iTGtDgWV0qzXOA/viewform",
            f"[FSA-Net's author]({_FSA_ISSUE}/51)",
            "not said",
            "`synhead2_release`, perhaps below `media/...`: all that is read",
        ),
    ),
    "aflw2000": (
        Copy(
            "the authors' page, from which `AFLW2000-3D.zip`",
            "http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm",
            "[FSA-Net](https://github.com/shamangary/FSA-Net)",
            "49.9 MB unpacked (measured)",
            "`AFLW2000/image00002.jpg` and `.mat`: all that is read",
        ),
    ),
    "300W-LP": (
        Copy(
            "`300W-LP.zip`",
            "https://drive.google.com/file/d/0B7OEHD3T4eCkVGs0TkhUWFN6N1k/view?usp=sharing",
            "[3DDFA_V2](https://github.com/cleardusk/3DDFA_V2), by one of its authors",
            "not said",
            "what networks under `cross` protocols were mostly trained on; the toolkit does not read it",
        ),
    ),
}


class Needs(NamedTuple):
    """What a dataset takes at the size of the real data: crops, bytes on disk, and decoded in memory."""

    name: str
    crops: int
    stored: float
    decoded: int


def copies(name: str) -> str:
    """Return the known copies of some data, a row each."""
    rows = [
        {
            "copy": f"[{copy.name}]({copy.link})",
            "address given by": copy.given_by,
            "size": copy.size,
            "what it holds": copy.holds,
        }
        for copy in COPIES[name]
    ]
    return github(rows)


def needs(build: BuildFigures, real: RealFrames) -> list[Needs]:
    """Return what each dataset of a build takes, if a face is seen in every frame of SynHead."""
    frames = sum(len(row.numbers) for row in manifest.listed_sequences(manifest.read()).values())
    rendered = build.stored_mib * 2**20 / build.crops
    found = [
        _needs(BIWI_PLUS, frames, real.stored_bytes / real.frames, build.size, rendered=False),
        _needs("synhead+", MATCHED[1] * len(HEADS), rendered, build.size, rendered=True),
        _needs("synbiwi+", frames * len(HEADS), rendered, build.size, rendered=True),
    ]
    return found


def _needs(name: str, crops: int, stored: float, size: int, rendered: bool) -> Needs:
    layout = Layout([], np.array([0, crops]), size, rendered)
    return Needs(name, crops, crops * stored, layout.decoded_bytes)


def describe_build_needs(build: BuildFigures, real: RealFrames) -> str:
    """Return what a build takes in disk, memory and time, as a table and its notes."""
    found = needs(build, real)
    whole = Needs("all", *(sum(getattr(one, key) for one in found) for key in ("crops", "stored", "decoded")))
    rows = [
        {
            "dataset": need.name,
            "crops, at most": f"{need.crops:,}",
            "on disk, GiB": f"{need.stored / 2**30:.1f}",
            "decoded in memory, GiB": f"{need.decoded / 2**30:.1f}",
        }
        for need in (*found, whole)
    ]
    times = " and ".join(
        f"{(whole.crops / run.crops_a_second + build.rendering_order_seconds) / 60:,.0f} minutes with {run.processes} "
        f"process{'es' if run.processes > 1 else ''} of {run.peak_mib_of_a_process} MiB"
        for run in build.runs
    )
    return (
        f"{github(rows)}\n\nComputed. Crops: {found[0].crops:,} frames in the manifest, {MATCHED[1]:,} poses of "
        f"SynHead, {len(HEADS)} heads; a build leaves out those without a visible face. On disk: "
        f"{real.stored_bytes / real.frames / 1000:.0f} kB a crop of Biwi+, measured on {real.frames:,} real frames, "
        f"and {build.stored_mib * 2**20 / build.crops / 1000:.0f} kB a rendered one, measured on a miniature of the "
        f"real sizes, whose images may be easier to pack. At that miniature's pace a build takes {times}, on "
        f"{build.processor} with {build.cores} cores."
    )


def training_hours(figures: TrainFigures, source: int, kind: Kind) -> tuple[float, float]:
    """Return the hours of both stages of the paper's training on ``source`` images, at the rates of a GPU."""
    preset = PRESETS["paper"]
    images = round(source * (1 - preset.held_out)) // preset.batch * preset.batch
    second = figures.stages[1]
    alone, both = (statistics.median(stage.images_a_second) for stage in figures.stages)
    at_first = statistics.median(second.images_a_second_at_first or second.images_a_second)
    waiting, later = preset.warm[kind], preset.ramp + preset.hold[kind]
    seconds = 2 * images * (waiting / at_first + later / both)
    return preset.stage1_epochs * images / alone / 3600, seconds / 3600


def adapted_in_table(kind: Kind) -> int:
    """Return how many methods of the paper's Table 1 have a second stage."""
    return sum(row.source == TABLE and row.task == kind and row.transductive == "yes" for row in published_rows())


def describe_training_needs(build: BuildFigures, real: RealFrames, train: Mapping[str, TrainFigures]) -> str:
    """Return what the paper's training takes from each store, as a table and its notes."""
    preset, task = PRESETS["paper"], TASKS[TASK]
    found = needs(build, real)
    decoded, stored = (sum(getattr(need, key) for need in found) / 2**30 for key in ("decoded", "stored"))
    crops = {need.name: need.crops for need in found}
    sources: dict[Kind, int] = {"da": crops["synbiwi+"], "pda": crops["synhead+"] + crops["synbiwi+"]}
    rows = []
    for store, figures in train.items():
        hours = {kind: training_hours(figures, count, kind) for kind, count in sources.items()}
        one = hours[task.kind]
        table = sum(first + adapted_in_table(kind) * second for kind, (first, second) in hours.items())
        rows.append(
            {
                "store": store,
                "stage 1, hours": f"{one[0]:.2f}",
                "stage 2, hours": f"{one[1]:.2f}",
                "both": f"{sum(one):.1f}",
                f"Table 1, hours (at most {MOST_HOURS:g})": f"{table:.1f}",
                "memory": {
                    "device": f"{decoded:.0f} GiB of the GPU's",
                    "host": f"{decoded:.0f} GiB of the machine's",
                    "stream": f"less; {stored:.0f} GiB on disk, best all cached",
                }[store],
            }
        )
    first = next(iter(train.values()))
    adapted = {kind: adapted_in_table(kind) for kind in sources}
    return (
        f"{github(rows)}\n\nComputed for `--preset paper --task {TASK}`, a method and a seed: {preset.stage1_epochs} "
        f"epochs of {sources[task.kind]:,} source images and {preset.stage2_epochs(task.kind)} of twice as many of "
        f"both domains, at the rates measured on {first.describe()}, in {first.precision}; what is looked at after "
        f"each epoch comes on top. All methods of a seed share stage 1. Table 1 is the paper's, for a seed: stage 1 of "
        f"both tasks, {adapted['da']} methods with a second stage in `da` and {adapted['pda']} in `pda`. `--store "
        f"auto` takes the GPU's memory where the source's crops need less than {100 * GPU_SHARE:.0f} % of what is free "
        f"there, the machine's where they need less than {100 * RAM_SHARE:.0f} %, and else the disk; `--store host` "
        "insists."
    )
