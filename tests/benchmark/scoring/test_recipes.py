"""Files in the formats of published networks: each is written here as its script would, by formulas of its own."""

import json
import pickle
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.transform import Rotation

from benchmark.board.published import published_rows
from benchmark.scoring import network_files, networks, recipes
from benchmark.scoring.submission import read_about
from headposeplus import rotations as rot
from headposeplus.raw import manifest, subsets
from headposeplus.raw.aflw2000 import read_label
from headposeplus.raw.targets import listed_ids

KEYS = ("6drepnet", "hopenet", "whenet", "fsanet", "img2pose", "opal", "trinet")
FRAMES = subsets.find("biwi/sequence-19").ids[:60]
BOARD = Path(__file__).parents[3] / "results/board/predictions"


def turn(axis, degrees):
    """The rotation by an angle about an axis, written out."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    a, b = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = cos
    matrix[a, b], matrix[b, a] = -sin, sin
    return matrix


def poses(wide=30.0):
    """Pitch, yaw, roll (n, 3) as in 300W-LP, and the rotations that a camera sees with x right, y down, z forward."""
    angles = np.random.default_rng(0).normal([-5, 3, 2], [20, wide, 12], (len(FRAMES), 3))
    return angles, np.array([turn("x", -p) @ turn("y", y) @ turn("z", r) for p, y, r in angles])


def files(ids=FRAMES, before="", ending="_rgb.png"):
    """The names of Biwi's images as scripts have them: ``19/frame_00000_rgb.png``."""
    return [f"{before}{i.split('/')[1]}/frame_{i.split('/')[2]}{ending}" for i in ids]


def write_6drepnet(folder, angles, rotations):
    matrices = np.array([turn("z", r) @ turn("y", y) @ turn("x", p) for p, y, r in angles])
    np.savez(folder / "6drepnet.npz", names=files(ending=""), R_pred=matrices.astype(np.float32))
    return folder / "6drepnet.npz", ()


def write_lines(folder, angles, rotations):
    lines = [f"{name} {y:f} {p:f} {r:f}" for name, (p, y, r) in zip(files(ending=""), angles, strict=True)]
    (folder / "hopenet.txt").write_text("\n".join(lines) + "\n")
    return folder / "hopenet.txt", ()


def write_fsanet(folder, angles, rotations):
    np.save(folder / "fsanet_BIWI.npy", angles[:, [1, 0, 2]].astype(np.float32))
    (folder / "frames.txt").write_text("\n".join(files()))
    return folder / "fsanet_BIWI.npy", ("--frames", folder / "frames.txt")


def write_img2pose(folder, angles, rotations):
    vectors = np.array([cv2.Rodrigues(matrix)[0].ravel() for matrix in rotations])
    dofs = np.column_stack([vectors, np.random.default_rng(1).normal(0, 50, (len(vectors), 3))])
    np.savez(folder / "img2pose.npz", names=files(before="../../datasets/BIWI/"), dofs=dofs)
    return folder / "img2pose.npz", ()


def matrices_of_opal(angles):
    return Rotation.from_euler("XYZ", angles * [1, -1, 1], degrees=True).as_matrix()


def write_opal(folder, angles, rotations):
    names = files(before="kinect_head_pose_db/")
    np.savez(folder / "opal.npz", names=names, pred_matrix_array=matrices_of_opal(angles))
    return folder / "opal.npz", ()


def write_trinet(folder, angles, rotations):
    matrices = np.array([turn("x", p) @ turn("y", -y) @ turn("z", r) for p, y, r in angles])
    vectors = np.concatenate([matrices[:, :, column] * (1 + 0.1 * column) for column in range(3)], axis=1)
    np.save(folder / "trinet.npy", vectors)
    (folder / "frames.csv").write_text("\n".join(["image", *files()]))
    return folder / "trinet.npy", ("--frames", folder / "frames.csv")


WRITERS = {
    "6drepnet": write_6drepnet, "hopenet": write_lines, "whenet": write_lines, "fsanet": write_fsanet,
    "img2pose": write_img2pose, "opal": write_opal, "trinet": write_trinet,
}  # fmt: skip


def read_back(path):
    """The rotations (n, 3, 3) in a CSV, in the order of the frames."""
    table = pd.read_csv(path).set_index("id").loc[list(FRAMES)]
    return rot.to_matrix(table[["pitch", "yaw", "roll"]].to_numpy(), "ypr")


def flat(text):
    """A text as one line."""
    return " ".join(text.split())


@pytest.mark.parametrize("network", KEYS)
def test_each_networks_file_gives_its_poses(network, tmp_path, hpp):
    angles, rotations = poses(70)
    assert np.abs(angles[:, 1]).max() > 130
    file, more = WRITERS[network](tmp_path, angles, rotations)
    hpp("submission", "convert", "--from", network, file, *more, "--out", tmp_path / "mine.csv")
    assert rot.geodesic(read_back(tmp_path / "mine.csv"), rotations).max() < 1e-3
    about, faults = read_about((tmp_path / "mine.toml").read_bytes())
    assert faults == [] and (about.convention, about.camera, about.protocol) == ("ypr", "rgb", "biwi+/cross@1")
    assert about.name == networks.find(network).title and about.selection == "released weights"
    assert about.uses_target_images is False and about.training_data and about.authors and file.name in about.notes


@pytest.mark.parametrize("network", KEYS)
def test_a_converted_file_is_scored_by_one_command(network, tmp_path, hpp):
    angles, rotations = poses()
    labels = pd.DataFrame(angles + np.random.default_rng(2).normal(0, 2, angles.shape), columns=rot.ANGLES)
    labels.insert(0, "id", FRAMES)
    labels.assign(subject="M11").to_csv(tmp_path / "labels.csv", index=False)
    given = ("--labels", tmp_path / "labels.csv", "--labels-convention", "ypr", "--labels-camera", "rgb")
    protocol = tmp_path / "own.toml"
    hpp("protocols", "new", protocol, "--id", "lab/faces@1", "--title", "Faces", *given)
    file, more = WRITERS[network](tmp_path, angles, rotations)
    out = tmp_path / "mine.csv"
    told = hpp("submission", "convert", "--from", network, file, *more, "--protocol", protocol, "--out", out).output
    assert f"then: hpp score {out} --labels Biwi_plus.npz --protocol {protocol}" in told
    text = hpp("score", out, "--protocol", protocol, *given).output
    expected = np.abs(labels[list(rot.ANGLES)].to_numpy() - angles).mean()
    assert f"mae {expected:.2f}" in flat(text) and "suspicion" not in text


def test_the_angles_are_those_of_the_axes_that_the_networks_draw():
    """draw_axis of Hopenet, FSA-Net, WHENet and 6DRepNet: the head's right, down and out of the face, in the image."""
    (p, y, r), rotations = np.deg2rad(poses(60)[0]).T * np.array([[1], [-1], [1]]), poses(60)[1]
    right = np.cos(y) * np.cos(r), np.cos(p) * np.sin(r) + np.cos(r) * np.sin(p) * np.sin(y)
    down = -np.cos(y) * np.sin(r), np.cos(p) * np.cos(r) - np.sin(p) * np.sin(y) * np.sin(r)
    out = np.sin(y), -np.cos(y) * np.sin(p)
    for drawn, axis in ((right, [1, 0, 0]), (down, [0, 1, 0]), (out, [0, 0, -1])):
        assert (rotations @ axis)[:, :2] == pytest.approx(np.transpose(drawn))
    assert rot.to_matrix(poses(60)[0], "ypr") == pytest.approx(rotations)


def test_the_angles_are_those_that_img2pose_hopenet_and_whenet_make_of_a_rotation():
    angles, rotations = poses(25)
    turned = Rotation.from_matrix(np.swapaxes(rotations, 1, 2)).as_euler("xyz", degrees=True)  # convert_to_aflw
    assert turned * [1, -1, -1] == pytest.approx(angles)
    m = rotations.transpose(1, 2, 0)  # inverse_rotate_zyx, with yaw and roll turned
    found = np.arctan2(m[1, 2], m[2, 2]), np.arcsin(m[0, 2]), -np.arctan2(m[0, 1], m[0, 0])
    assert pytest.approx(angles) == np.rad2deg(found).T
    t = m.transpose(1, 0, 2)  # the labels of Biwi in datasets.py: R transposed
    labels = (
        np.arctan2(t[2, 1], t[2, 2]),
        np.arctan2(t[2, 0], np.hypot(t[2, 1], t[2, 2])),
        -np.arctan2(t[1, 0], t[0, 0]),
    )
    assert pytest.approx(angles) == np.rad2deg(labels).T


def test_a_matrix_read_as_if_it_were_the_heads_would_be_far_off():
    """What a recipe is for: the same numbers, taken as they are, are other poses."""
    angles, rotations = poses(25)
    inverse = np.array([turn("z", r) @ turn("y", y) @ turn("x", p) for p, y, r in angles])
    assert np.median(rot.geodesic(inverse, rotations)) > 15
    assert np.median(rot.geodesic(matrices_of_opal(angles), rotations)) > 15


def test_angles_and_matrices_of_6drepnet_agree(tmp_path):
    angles, rotations = poses()
    pd.DataFrame(angles, columns=rot.ANGLES).assign(name=files()).to_csv(tmp_path / "a.csv", index=False)
    np.savez(tmp_path / "b.npz", names=np.array(files(), "S"), euler=angles, images=np.zeros((60, 2, 2)))
    columns = dict(zip(rot.ANGLES, angles.T, strict=True))
    np.savez(tmp_path / "c.npz", image=files(), **columns)
    lines = [f"{name} {p} {y} {r}" for name, (p, y, r) in zip(files(), angles, strict=True)]
    (tmp_path / "d.txt").write_text("\n".join(["19/frame_00501_rgb.png nan nan nan", *lines]))
    for name in ("a.csv", "b.npz", "c.npz", "d.txt"):
        recipes.convert(tmp_path / name, "6DRepNet", tmp_path / f"out-{name[0]}.csv")
        assert rot.geodesic(read_back(tmp_path / f"out-{name[0]}.csv"), rotations).max() < 1e-3


class Annotation:
    """An image of OPAL's framework, with one face."""

    def __init__(self, filename):
        self.filename, self.images, self.objects = filename, [self], [None]


def scripts(angles, rotations):
    """The variables of each network's script where its lines stand, all images in one batch."""
    yaw_first = dict(zip(("pitch_predicted", "yaw_predicted", "roll_predicted"), torch.tensor(angles.T), strict=True))
    inverse = torch.tensor(networks.FLIP @ rotations.transpose(0, 2, 1) @ networks.FLIP)
    dofs = torch.tensor(np.column_stack([Rotation.from_matrix(rotations).as_rotvec(), angles]))
    left_handed = np.diag([1, 1, -1]) @ rotations @ np.diag([1, 1, -1])
    return {
        "6drepnet": {"name": tuple(files()), "R_pred": inverse},
        "hopenet": {"name": tuple(files(ending="")), **yaw_first},
        "whenet": {"root": "", "bbox": [], "model": None, "filename": files()[0],
                   "crop_and_pred": lambda *_: tuple(angles[:1, [1, 0, 2]].T)},
        "fsanet": {"test_db_name": "BIWI", "p_data": angles[:, [1, 0, 2]]},
        "img2pose": {"test_dataset": files(), "j": 0, "res": {"dofs": dofs}, "best_index": 0},
        "opal": {"anns": list(map(Annotation, files())), "pred_matrix_array": left_handed},
        "trinet": {"p_data": left_handed.transpose(0, 2, 1).reshape(-1, 9)},
    }  # fmt: skip


@pytest.mark.parametrize("network", networks.ALL, ids=KEYS)
def test_the_lines_of_the_page_write_a_file_that_is_read(network, tmp_path, monkeypatch):
    angles, rotations = poses()
    monkeypatch.chdir(tmp_path)
    names = {"np": np, **scripts(angles, rotations)[network.key]}
    exec(network.save, names)
    if "out" in names:
        names["out"].close()
    Path("frames.txt").write_text("\n".join(files()))
    file, *more = network.given.split()
    recipes.convert(Path(file), network.key, Path("mine.csv"), frames="frames.txt" if more else None)
    table = pd.read_csv("mine.csv")
    found = rot.to_matrix(table[["pitch", "yaw", "roll"]].to_numpy(), "ypr")
    assert len(table) == (1 if network.key in ("whenet", "img2pose") else len(FRAMES))
    assert rot.geodesic(found, rotations[: len(table)]).max() < 1e-3 and table["id"].tolist() == [*FRAMES[: len(table)]]


def write_json(folder, angles, names):
    """JSON files as Alignment.save writes them: one an image, the pose as YXZ of the matrix."""
    folder.mkdir(parents=True)
    for name, matrix in zip(names, matrices_of_opal(angles), strict=True):
        pose = Rotation.from_matrix(matrix).as_euler("YXZ", degrees=True).tolist()
        face = {"id": "1", "image_id": 0, "bbox": [1.0, 2.0, 3.0, 4.0], "pose": pose, "landmarks": [], "iscrowd": 0}
        image = {"id": 0, "file_name": name.split("/")[-1], "width": 640, "height": 480, "date_captured": ""}
        content = {"images": [image], "annotations": [face], "mapping": [{}]}
        (folder / f"{name.split('/')[-1].split('.')[0]}.json").write_text(json.dumps(content))


def test_the_json_files_of_opal(tmp_path, hpp):
    angles, rotations = poses()
    write_json(tmp_path / "images/19", angles, files())
    converted = recipes.convert(tmp_path / "images", "opal", tmp_path / "mine.csv")
    assert rot.geodesic(read_back(converted.out), rotations).max() < 1e-3
    twice = tmp_path / "images/19/frame_00000_rgb.json"
    content = json.loads(twice.read_text())
    twice.write_text(json.dumps(content | {"annotations": 2 * content["annotations"]}))
    words = ("submission", "convert", "--from", "opal", tmp_path / "images", "--out", tmp_path / "b.csv")
    assert f"Error: {twice}: 2 faces; keep the one that is meant" in hpp(*words, expect=1).output
    twice.write_text(json.dumps(content | {"annotations": []}))  # no face: a frame that is missing
    assert len(recipes.convert(tmp_path / "images", "opal", tmp_path / "c.csv").ids) == len(FRAMES) - 1
    twice.write_text("{}")
    assert "not as OPAL's framework writes it ('images'); expected {" in hpp(*words, expect=1).output


def test_photographs_beyond_the_literatures_limit_are_left_out(tmp_path):
    tested = listed_ids(manifest.read())["aflw2000"]
    names = [
        f"AFLW2000/{name.split('/')[1]}.jpg" for name in [*tested, *sorted(recipes.photographs_beyond(manifest.read()))]
    ]
    assert len(names) == 2000
    angles = np.zeros((2000, 3)) + np.arange(3) * 20
    np.savez(tmp_path / "a.npz", names=names, p_data=angles)
    converted = recipes.convert(tmp_path / "a.npz", "fsa_net", tmp_path / "a.csv")
    text = flat("\n".join(recipes.describe(converted)))
    assert converted.about.protocol == "aflw2000/cross@1" and converted.missing == []
    assert "1,969 frames of AFLW2000-3D" in text and "left out: 31 an angle (convention ypr) beyond 99" in text
    assert f"then: hpp score {tmp_path / 'a.csv'} --labels AFLW2000" in text
    np.save(tmp_path / "b.npy", angles[: len(tested)])
    whole = recipes.convert(tmp_path / "b.npy", "fsanet", tmp_path / "b.csv", frames="aflw2000")
    assert whole.ids.tolist() == tested and whole.missing == []


def test_missing_frames_are_counted_and_a_part_that_is_whole_is_named(tmp_path, hpp):
    ids = [*subsets.find("biwi/sequence-19").ids, "biwi/01/00003"]
    angles = np.zeros((len(ids), 3)) + np.arange(3) * 20.0
    angles[-1] = np.nan
    np.savez(tmp_path / "a.npz", names=files(ids), p_data=angles)
    words = ("submission", "convert", "--from", "fsanet", tmp_path / "a.npz")
    text = flat(hpp(*words, "--out", tmp_path / "a.csv").output)
    assert "a.csv: 502 frames of Biwi+, from yaw, pitch, roll in degrees (array p_data)" in text
    assert "left out: 1 without a pose (NaN, or no number)" in text
    assert "missing: 15,176 of the 15,678 frames of biwi+/cross@1, the first biwi/01/00003. A protocol scores" in text
    assert "those where no face was found as well, or keep those of a part that is whole: --subset biwi/s" in text
    assert "then: hpp score" not in text
    angles[-1] = 0
    np.savez(tmp_path / "a.npz", names=files(ids), p_data=angles)
    text = hpp(*words, "--subset", "biwi/sequence-19", "--out", tmp_path / "b.csv").output
    assert "left out: 1 beyond biwi/sequence-19" in flat(text) and "missing:" not in text
    assert f"then: hpp score {tmp_path / 'b.csv'} --labels Biwi_plus.npz --subset biwi/sequence-19" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("then: ")) <= 80


def test_without_a_name_the_networks_are_listed(hpp):
    text = hpp("submission", "convert", "--from").output
    assert all(f"{key} " in text for key in KEYS) and max(map(len, text.splitlines())) < 80
    assert hpp("submission", "convert").output == text
    assert tuple(network.key for network in networks.ALL) == KEYS
    told = hpp("submission", "convert", "a.npz", expect=2).output
    assert "say whose file it is, by --from and one of 6drepnet, hopenet, whenet" in told
    assert "give the file of WHENet's poses" in hpp("submission", "convert", "--from", "WHE-Net", expect=2).output
    told = hpp("submission", "convert", "--from", "6drepnt", "a.npz", expect=1).output
    assert "'6drepnt' is no network that is known; did you mean 6drepnet? known are 6drepnet, hopenet" in told


def test_arrays_that_are_too_large_for_poses_are_passed_over(tmp_path, monkeypatch):
    angles, rotations = poses()
    monkeypatch.setattr(network_files, "_LARGE", 50_000)
    pixels = np.random.default_rng(0).random((60, 3, 1000))
    np.savez(tmp_path / "a.npz", names=files(), p_data=angles[:, [1, 0, 2]], pixels=pixels)
    data = (tmp_path / "a.npz").read_bytes()  # damage that shows if the array is read
    (tmp_path / "a.npz").write_bytes(data.replace(pixels[30, 1, 500:510].tobytes(), bytes(80)))
    converted = recipes.convert(tmp_path / "a.npz", "fsanet", tmp_path / "a.csv")
    assert rot.geodesic(read_back(converted.out), rotations).max() < 1e-3


def test_radians_are_a_suspicion(tmp_path):
    angles, _ = poses()
    np.savez(tmp_path / "a.npz", names=files(), euler=np.deg2rad(angles))
    text = flat("\n".join(recipes.describe(recipes.convert(tmp_path / "a.npz", "6drepnet", tmp_path / "a.csv"))))
    assert "suspicion: no angle of 60 rows is more than 1." in text and "they look like radians; save degrees" in text
    np.savez(tmp_path / "b.npz", names=files(), euler=angles)
    assert recipes.convert(tmp_path / "b.npz", "6drepnet", tmp_path / "b.csv").suspicion == ""


def bad_files(folder):
    """Files that are not as they should be: the network, the file, more words, and what is said."""
    angles, rotations = poses()
    names, save = files(), lambda name, **arrays: (np.savez(folder / name, **arrays), folder / name)[1]

    def text(name, content):
        (folder / name).write_text(content)
        return folder / name

    lines = "\n".join(f"{number} 1 2 3" for number in range(1, 30))
    pickled = folder / "trinet.pickle"
    pickled.write_bytes(pickle.dumps({}))
    with zipfile.ZipFile(folder / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    (folder / "frames.txt").write_text("\n".join(names[:50]))
    np.save(folder / "two.npy", angles[:, :2])
    np.save(folder / "three.npy", angles)
    np.save(folder / "all.npy", np.ones((13219, 3)))
    count = len(subsets.find("biwi/vggt-hpe/easy").ids)
    flat_ones = np.tile(np.eye(3).ravel(), (count, 1))
    flat_ones[2, 8] = 0
    np.save(folder / "flat.npy", flat_ones)
    (folder / "damaged.npy").write_bytes((folder / "two.npy").read_bytes().replace(b"}", b"("))
    wrong = rotations.copy()
    wrong[3] *= 2
    return [
        ("6drepnet", save("a.npz", names=names, wrong=angles[:, :2]), (),
         "no r11, r12, r13, r21, r22, r23, r31, r32, r33 and no pitch, yaw, roll, and no array (n, 3, 3) or (n, 3), "
         "but wrong (60, 2); save R_pred, matrices: docs/networks.md says which lines to add to its script"),
        ("6drepnet", save("s.npz", names=names, pyr=angles), (), "but pyr (60, 3); save R_pred, matrices"),
        ("hopenet", text("a.csv", "name,yaw,pitch\n19/frame_00000,1,2\n"), (),
         "no yaw, pitch, roll, and no array (n, 3), but yaw, pitch"),
        ("hopenet", text("b.txt", lines), (), "lines 1, 2, 3, 4, 5 and 24 more: 29 names of no known image, '1', '2', "
         "'3'; these number the frames of a video; expected a Biwi frame such as biwi/01/00003 or"),
        ("hopenet", text("t.txt", "\x1c\n"), (), "no cell that is not empty; write a CSV with name"),
        ("hopenet", text("c.txt", "19/frame_00000 1 2 3\n19/frame_00001 1 2\n"), (),
         "line 2: no name and pose; write NAME yaw pitch roll"),
        ("whenet", text("d.csv", "name,yaw,pitch,roll\na.jpg,1,2,3\nb.jpg,1,2,3\n19/frame_00000,1,2,3\nc.jpg,1,2,3\n"
         "d.jpg,1,2,3\n"), (), "lines 2, 3, 5, 6: 4 names of no known image, 'a.jpg', 'b.jpg', 'c.jpg'; expected"),
        ("whenet", text("e.csv", "name,yaw,pitch,roll\n19/frame_00000,1,2,3\n19/frame_00000_rgb.png,1,2,3\n"), (),
         "line 3: '19/frame_00000_rgb.png' comes twice, as where two faces were found; keep one pose an image"),
        ("whenet", text("w.csv", "name,yaw,pitch,roll\n19/frame_00000,nan,,none\n19/frame_00001,abc,2,3\n"), (),
         "line 3: yaw is 'abc', no number; write a number, or nan where no face was found"),
        ("hopenet", text("u.txt", "19/frame_00000 1 2 3\n19/frame_00001 1 2 3;\n"), (),
         "line 2: roll is '3;', no number"),
        ("fsanet", folder / "two.npy", (), "no array (n, 3), but the array (60, 2)"),
        ("fsanet", folder / "three.npy", (), "names no images for its 60 rows; save the images' names as names, (n,) "
         "texts, or say whose poses the rows are by --frames, a named subset or a file with a frame a line"),
        ("fsanet", folder / "all.npy", (), "names no images for its 13,219 rows; save the images' names as names, "
         "(n,) texts, or say whose poses the rows are by --frames: biwi/fsa-net has as many"),
        ("fsanet", folder / "three.npy", ("--frames", folder / "frames.txt"), "has 50 frames; give the frames whose"),
        ("fsanet", folder / "three.npy", ("--frames", "biwi/fsanet"), "biwi/fsanet: no such subset"),
        ("fsanet", save("f.npz", names=names, p_data=angles), ("--frames", "biwi/fsa-net"),
         "the file names its images; leave out --frames"),
        ("fsanet", save("g.npz", names=names, a=angles, b=angles), (),
         "'a' and 'b' may each be yaw, pitch, roll in degrees; call the right one p_data"),
        ("fsanet", save("h.npz", names=names, p_data=np.full((60, 3), np.nan)), (),
         "no row is left: 60 without a pose (NaN, or no number)"),
        ("fsanet", save("i.npz", names=np.arange(60), p_data=angles), (), "names no images for its 60 rows; save"),
        ("fsanet", save("r.npz", image=np.zeros((60, 4, 4, 3)), pose=angles, img_size=4), ("--frames", "biwi/fsa-net"),
         "a test set with its labels, no predictions; save what is predicted; docs/networks.md" ),
        ("img2pose", save("j.npz", names=names, dofs=np.column_stack([angles, angles])), (),
         "more than pi: these look like degrees; save what the network gives, before a script makes angles of it"),
        ("img2pose", save("k.npz", names=names, dofs=np.zeros((55, 6))), (),
         "60 names and 55 poses; save a name with each pose: of an image without a face, scripts skip the pose"),
        ("opal", save("l.npz", names=names, pred_matrix_array=wrong), (),
         "row 4: no rotation: its rows are not orthonormal, or its determinant is -1; save the matrices as"),
        ("opal", save("m.npz", names=names, pred_matrix_array=np.array([{}] * 60)), (), "of objects ("),
        ("6drepnet", folder / "a.pth", (), "written by torch.save: reading it may run anything; save npz"),
        ("6drepnet", pickled, (), "trinet.pickle: a pickle; reading it may run anything; save it as a CSV" ),
        ("trinet", folder / "flat.npy", ("--frames", "biwi/vggt-hpe/easy"), "row 3: vectors that lie in a plane, or"),
        ("fsanet", folder / "damaged.npy", (), "a damaged npy file, or one of objects ("),
        ("trinet", folder, (), "a folder; give a file"),
        ("trinet", folder / "absent.npy", (), "No such file or directory; expected a file of TriNet's poses"),
        ("trinet", text("o.npy", ""), (), "an empty file"),
        ("hopenet", text("p.csv", f"name,yaw,pitch,roll\n{names[0]},1,2,3\naflw2000/image00002,1,2,3\n"), (),
         "images of several datasets; give a file for each"),
        ("hopenet", text("q.csv", f"name,yaw,pitch,roll\n{names[0]},1,2,3\n"), ("--subset", "biwi/sequence-01"),
         "no row is left: 1 beyond biwi/sequence-01"),
        ("hopenet", folder / "q.csv", ("--out", folder / "q.csv"), "there is such a file, and it may be filled in"),
        ("hopenet", folder / "q.csv", ("--out", folder / "q.npz"), "a submission is a CSV; choose an --out that ends"),
        ("hopenet", folder / "q.csv", ("--protocol", "biwi+/cross"), "no such protocol; did you mean biwi+/cross@1?"),
    ]  # fmt: skip


def test_what_is_wrong_is_one_line_that_says_how_to_mend_it(tmp_path, hpp):
    for place, (network, file, more, words) in enumerate(bad_files(tmp_path)):
        out = () if "--out" in more else ("--out", tmp_path / f"out{place}.csv")
        said = hpp("submission", "convert", "--from", network, file, *more, *out, expect=1).output
        assert words in said and said.count("\n") == 1, (words, said)
        assert str(tmp_path) in said or "biwi" in words, said  # names the file
    assert not list(tmp_path.glob("out*"))


@pytest.mark.real
@pytest.mark.parametrize(("name", "subset"), [("biwi", "biwi/sequence-19"), ("aflw2000", None)])
def test_fsanets_real_arrays_become_the_submissions_of_the_board(real, name, subset, tmp_path):
    source = real / "predictions" / f"fsanet_onnx_{name}.npz"
    converted = recipes.convert(source, "fsanet", tmp_path / "mine.csv", subset=subset)
    kept = {path.read_bytes() for path in BOARD.glob("*/*.csv")}
    assert converted.out.read_bytes() in kept and converted.missing == []


@pytest.mark.real
def test_fsanets_real_arrays_are_scored_by_two_commands(real, tmp_path, hpp):
    source, out = real / "predictions/fsanet_onnx_biwi.npz", tmp_path / "mine.csv"
    few = ("--subset", "biwi/sequence-19")
    hpp("submission", "convert", "--from", "fsanet", source, *few, "--out", out)
    text = hpp("score", out, "--labels", real / "Biwi_plus.npz", *few).output
    assert "mae 6.82" in flat(text) and "suspicion" not in text


@pytest.mark.real
def test_opals_labels_of_photographs_are_those_of_the_dataset_with_the_yaw_turned(real_photographs):
    """Yaw, pitch, roll in four lines of its test/aflw2000_ann.txt; its loader reads them as XYZ of pitch, yaw, roll."""
    lines = {
        "image01328": (-4.657113, 0.95937383, 1.1412557), "image02423": (-2.1347017, -20.754847, -0.705738),
        "image02359": (-65.793335, 0.81671345, 0.9918213), "image04279": (-15.928503, -6.1154466, -22.941208),
    }  # fmt: skip
    for name, (yaw, pitch, roll) in lines.items():
        label = read_label(real_photographs / f"{name}.mat").rotation
        matrix = Rotation.from_euler("XYZ", [pitch, yaw, roll], degrees=True).as_matrix()
        found = rot.to_matrix(networks.find("opal").forms[0].angles(matrix[None]), "ypr")[0]
        assert rot.geodesic(found, label) < 1e-3


def test_the_published_table_knows_the_networks_by_their_titles():
    methods = {row.method.partition(" (")[0] for row in published_rows()}
    known = {network.title for network in networks.ALL}
    assert {"6DRepNet", "Hopenet", "WHENet", "FSA-Net", "TriNet"} <= known & methods
