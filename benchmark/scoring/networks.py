"""Networks whose own output :mod:`benchmark.scoring.recipes` turns into a submission: a value each.

A :class:`Network` holds facts that its authors' repository states, and names the file and function that states each.
In the repositories' words, pitch, yaw and roll are those of 300W-LP: with (p, y, r) of the convention ``ypr``, R, which
takes the head's axes to the camera's (x right, y down, z forward), is Rx(-p) Ry(y) Rz(r). With F = diag(1, -1, -1) and
G = diag(1, 1, -1) the matrices of the networks follow:

- 6DRepNet builds Rz(r) Ry(y) Rx(p) (``get_R``), which is F Rᵀ F: the inverse, in axes with y up.
- TriNet builds Rx(p) Ry(-y) Rz(r) (``W300_EulerAngles2Vectors``), which is G R G: left-handed, with z to the viewer.
- OPAL builds Rx(p) Ry(y') Rz(r) of labels whose yaw y' is 300W-LP's turned (``aflw2000_ann.txt``): G R G as well.
- img2pose's rotation vector is that of R: its notebook compares it with the matrix in Biwi's ``pose.txt``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from headposeplus import tables
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault, shown
from headposeplus.poses.columns import MATRIX_COLUMNS
from headposeplus.rotations import FLIP, Floats, from_matrix, nearest_rotation

CONVENTION = "ypr"  # of the angles that are written
CAMERA = "rgb"  # all of them look at photographs
RELEASED = "released weights"
_LEFT_HANDED = np.diag([1.0, 1.0, -1.0])


class Form(NamedTuple):
    """A way in which a network's file gives poses.

    Attributes
    ----------
    what
        In words.
    kind
        What the numbers of a row are.
    columns
        Their names in a CSV, and in an npz that has an array for each.
    shape
        Of a row in an array that has them all.
    arrays
        The names of such an array in an npz, the first of which counts that is there.
    angles
        From rows ``(n, *shape)`` to pitch, yaw, roll (n, 3) in degrees, convention ``ypr``.
    """

    what: str
    kind: Literal["angles", "rotation vectors", "matrices", "vectors"]
    columns: tuple[str, ...]
    shape: tuple[int, ...]
    arrays: tuple[str, ...]
    angles: Callable[[Floats], Floats]


class Network(NamedTuple):
    """A network, as its authors' repository describes it.

    Attributes
    ----------
    key
        Its name for the command line: small letters and digits.
    title, authors, link, training_data
        As they stand in the description of predictions; the training data are those of the released weights.
    forms
        The ways in which its poses may stand in a file, the one that its script has first.
    writes
        What the authors' own script writes, in words.
    save
        Lines that, added to that script, write a file which is read; the linters format them on the page.
    given
        That file, and what else the command needs of it.
    sources
        Where the repository defines the format: paths, with functions.
    beware
        What goes wrong most easily, in words.
    json
        The form of the ``pose`` in the JSON that it writes for an image, if it does.
    """

    key: str
    title: str
    authors: str
    link: str
    training_data: str
    forms: tuple[Form, ...]
    writes: str
    save: str
    given: str
    sources: tuple[str, ...]
    beware: str
    json: Form | None = None


def _as_they_are(values: Floats) -> Floats:
    return values


def _of_yaw_first(values: Floats) -> Floats:
    return values[:, [1, 0, 2]]


def _of_inverse(matrices: Floats) -> Floats:
    return from_matrix(FLIP @ np.swapaxes(matrices, -1, -2) @ FLIP, CONVENTION)


def _of_left_handed(matrices: Floats) -> Floats:
    return from_matrix(_LEFT_HANDED @ matrices @ _LEFT_HANDED, CONVENTION)


def _of_yxz(values: Floats) -> Floats:
    from scipy.spatial.transform import Rotation

    return _of_left_handed(Rotation.from_euler("YXZ", values, degrees=True).as_matrix())


def _of_rotation_vectors(values: Floats) -> Floats:
    from scipy.spatial.transform import Rotation

    return from_matrix(Rotation.from_rotvec(values[:, :3]).as_matrix(), CONVENTION)


def _of_columns(values: Floats) -> Floats:
    """Return the angles (n, 3) of the three columns of a left-handed matrix, nearly at right angles, end to end."""
    columns = np.swapaxes(values[:, :9].reshape(-1, 3, 3), -1, -2)
    return _of_left_handed(nearest_rotation(columns / np.linalg.norm(columns, axis=1, keepdims=True)))


_VECTORS = tuple(f"{vector}{axis}" for vector in "lbf" for axis in range(3))
_YAW_FIRST = Form("yaw, pitch, roll in degrees", "angles", ("yaw", "pitch", "roll"), (3,), (), _of_yaw_first)
_PITCH_FIRST = Form("pitch, yaw, roll in degrees", "angles", ("pitch", "yaw", "roll"), (3,), ("euler",), _as_they_are)
_DOFS = ("rx", "ry", "rz", "tx", "ty", "tz")
_FSANET = _YAW_FIRST._replace(arrays=("p_data", "pred_ypr"))
_INVERSE = Form("R_pred, matrices", "matrices", tuple(MATRIX_COLUMNS), (3, 3), ("r_pred",), _of_inverse)
_TRINET = Form("left, down and front vectors", "vectors", _VECTORS, (9,), ("p_data",), _of_columns)
_OPAL = Form("matrices", "matrices", tuple(MATRIX_COLUMNS), (3, 3), ("pred_matrix_array",), _of_left_handed)

ALL = (
    Network(
        key="6drepnet",
        title="6DRepNet",
        authors="Hempel, Abdelrahman, Al-Hamadi; ICIP 2022",
        link="https://github.com/thohemp/6DRepNet",
        training_data="300W-LP",
        forms=(_INVERSE, _PITCH_FIRST),
        writes="nothing; test.py prints the MAE",
        save="""\
names, poses = [], []  # before the loop
names += name
poses.append(R_pred.cpu().numpy())  # in it, below R_pred = model(images)
np.savez("6drepnet.npz", names=names, R_pred=np.concatenate(poses))""",
        given="6drepnet.npz",
        sources=(
            "sixdrepnet/test.py",
            "sixdrepnet/utils.py: get_R, compute_euler_angles_from_rotation_matrices",
            "sixdrepnet/datasets.py: AFLW2000, BIWI",
        ),
        beware="R_pred is the inverse of the head's rotation, in axes with y up, and is turned back. With --dataset "
        "BIWI the script knows no names (name is the image): leave names out, and give --frames biwi/fsa-net.",
    ),
    Network(
        key="hopenet",
        title="Hopenet",
        authors="Ruiz, Chong, Rehg; CVPRW 2018",
        link="https://github.com/natanielruiz/deep-head-pose",
        training_data="300W-LP",
        forms=(_YAW_FIRST,),
        writes="nothing; test_hopenet.py prints the errors (its scripts for videos write lines FRAME YAW PITCH ROLL)",
        save="""\
out = open("hopenet.txt", "w")  # before the loop; in it, below roll_predicted = ... * 3 - 99:
for row in zip(name, yaw_predicted, pitch_predicted, roll_predicted):
    out.write("%s %f %f %f\\n" % row)""",
        given="hopenet.txt",
        sources=(
            "code/test_hopenet.py",
            "code/test_on_video_dlib.py: txt_out",
            "code/datasets.py: AFLW2000, BIWI",
        ),
        beware="What its scripts for videos write begins with the number of a frame, which names no image: write the "
        "image's name instead. It predicts no angle beyond 99 degrees.",
    ),
    Network(
        key="whenet",
        title="WHENet",
        authors="Zhou, Gregson; BMVC 2020",
        link="https://github.com/Ascend-Research/HeadPoseEstimation-WHENet",
        training_data="300W-LP and CMU Panoptic",
        forms=(_YAW_FIRST,),
        writes="nothing; demo.py draws axes",
        save="""\
out = open("whenet.txt", "w")  # before the loop over bbox.txt; crop_and_pred returns yaw, pitch, roll:
yaw, pitch, roll = crop_and_pred(root + filename, bbox, model)
out.write("%s %f %f %f\\n" % (filename, yaw[0], pitch[0], roll[0]))""",
        given="whenet.txt",
        sources=(
            "GPU_CPU/whenet.py: WHENet.get_angle",
            "demo.py: crop_and_pred",
            "prepare_images.py: save_img_head (the signs of yaw and roll)",
        ),
        beware="Yaw goes all the way round, pitch and roll only to 99 degrees. For weights of WHENet-V, which saw "
        "300W-LP alone, change training_data.",
    ),
    Network(
        key="fsanet",
        title="FSA-Net",
        authors="Yang, Chen, Lin, Chuang; CVPR 2019",
        link="https://github.com/shamangary/FSA-Net",
        training_data="300W-LP",
        forms=(_FSANET,),
        writes="nothing; FSANET_test.py prints the MAE",
        save="""\
np.save("fsanet_" + test_db_name + ".npy", p_data)  # below p_data = model.predict(x_data)""",
        given="fsanet_BIWI.npy --frames biwi/fsa-net",
        sources=(
            "training_and_testing/FSANET_test.py: main",
            "data/TYY_create_db_biwi.py (the order of frames)",
            "data/type1/TYY_create_db_type1.py (the order of photographs)",
        ),
        beware="Its data hold no names: rows are in the order of the sorted files, so give --frames biwi/fsa-net for "
        "BIWI_noTrack.npz and --frames aflw2000 for AFLW2000.npz.",
    ),
    Network(
        key="img2pose",
        title="img2pose",
        authors="Albiero, Chen, Yin, Pang, Hassner; CVPR 2021",
        link="https://github.com/vitoralbiero/img2pose",
        training_data="WIDER FACE",
        forms=(
            Form("dofs: rotation vectors, radians", "rotation vectors", _DOFS, (6,), ("dofs",), _of_rotation_vectors),
            Form("rotation vectors in radians", "rotation vectors", _DOFS[:3], (3,), (), _of_rotation_vectors),
        ),
        writes="nothing; its notebooks print the MAE",
        save="""\
names, dofs = [], []  # before the loop; in it, above predictions.append (of AFLW2000, img_path is the name):
names.append(test_dataset[j])
dofs.append(res["dofs"][best_index].cpu().numpy().squeeze())
np.savez("img2pose.npz", names=names, dofs=dofs)""",
        given="img2pose.npz",
        sources=(
            "evaluation/jupyter_notebooks/biwi_evaluation.ipynb",
            "evaluation/jupyter_notebooks/aflw_2000_3d_evaluation.ipynb: convert_to_aflw",
            "utils/pose_operations.py: transform_pose_global_project_bbox, pose_bbox_to_full_image",
        ),
        beware="dofs are already those of the whole image, so give it whole frames and no crops. Frames without a "
        "detected face are skipped, and a protocol scores all of its frames. The notebooks turn poses into angles "
        "before they print; save dofs. Weights that end in ft_300w_lp saw 300W-LP as well: change training_data.",
    ),
    Network(
        key="opal",
        title="OPAL",
        authors="Cobo, Valle, Buenaposada, Baumela; Pattern Recognition 2024",
        link="https://github.com/pcr-upm/opal23_headpose",
        training_data="300W-LP",
        forms=(_OPAL,),
        writes="a JSON an image (opal23_headpose_test.py --save-image); its scripts for the test sets print the MAE",
        save="""\
# below the loop, and above what aligns the predictions with the labels:
names = [ann.images[0].filename for ann in anns for _ in ann.images[0].objects]
np.savez("opal.npz", names=names, pred_matrix_array=pred_matrix_array)""",
        given="opal.npz",
        sources=(
            "test/opal23_headpose_biwi.py and test/opal23_headpose_aflw2000.py: main",
            "src/opal23_headpose.py: Opal23Headpose.process",
            "github.com/pcr-upm/images_framework, src/alignment.py: Alignment.save (the JSON)",
        ),
        beware="Its script for Biwi turns the predictions of each sequence towards the labels before it prints: what "
        "is saved after that has seen the test labels. A JSON is named by the image alone, so keep Biwi's in a folder "
        "a sequence.",
        json=Form("pose of its JSON files, degrees", "angles", (), (3,), ("pose",), _of_yxz),
    ),
    Network(
        key="trinet",
        title="TriNet",
        authors="Cao, Chu, Liu, Chen; WACV 2021",
        link="https://github.com/anArkitek/TriNet_WACV2021",
        training_data="300W-LP",
        forms=(
            _TRINET,
            _TRINET._replace(what="left, down and front vectors, then three angles", columns=(), shape=(12,)),
        ),
        writes="nothing; FSANET_test.py prints the errors of vectors and angles",
        save="""\
np.save("trinet.npy", p_data)  # below p_data, _ = model.predict(x_data)""",
        given="trinet.npy --frames biwi/fsa-net",
        sources=(
            "training_and_testing/FSANET_test.py: main, load_data_npz",
            "training_and_testing/computeMAE.py: W300.W300_EulerAngles2Vectors, W300_Get_MAE_NPY",
        ),
        beware="Its data hold no names, and of AFLW2000 its script keeps the photographs whose left vector has x and "
        "front vector has z of at least 0, not those within 99 degrees: write their names down, and give that file as "
        "--frames. Its script is set to weights that were trained on Biwi, which cross@1 does not allow.",
    ),
)


def find(name: str) -> Network:
    """Return the network of a name, however it is spelled: ``FSA-Net``, ``fsa_net`` and ``fsanet`` are one.

    Raises
    ------
    SubmissionError
        If there is none.
    """
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    known = {network.key: network for network in ALL}
    if key in known:
        return known[key]
    near = difflib.get_close_matches(key[:80], known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise SubmissionError(Fault(f"{shown(name)} is no network that is known", f"{hint}known are {', '.join(known)}"))


def table() -> str:
    """Return all networks as a table."""
    rows = [
        {
            "--from": network.key,
            "network": network.title,
            "trained on": network.training_data,
            "read": network.forms[0].what,
        }
        for network in ALL
    ]
    return tables.with_note(rows, "docs/networks.md has the lines to add to each network's own script.")
