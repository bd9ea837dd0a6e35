import re

import numpy as np
import pytest

from headposeplus.errors import HeadposeError
from headposeplus.files import locked, sha256
from headposeplus.images import foreground, read_image
from headposeplus.miniature import poses, stage, write
from headposeplus.miniature.heads import head_mesh
from headposeplus.miniature.people import draw_identity
from headposeplus.miniature.solids import vertex_normals
from headposeplus.raw import biwi, manifest, synhead
from headposeplus.raw.meshes import read_mesh
from headposeplus.rotations import ALL_ORDERS, from_matrix, geodesic, to_matrix


def files(folder):
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_resumed_with_another_number_of_jobs_gives_the_same_files(tiny, tiny_copy):
    before = files(tiny)
    victims = [
        *sorted((tiny_copy / "hpdb/03").iterdir())[:7],
        *sorted((tiny_copy / "synhead2_release/BIWI/m02/02").iterdir())[:3],
        tiny_copy / "head_pose_masks/06" / sorted((tiny_copy / "head_pose_masks/06").iterdir())[0].name,
        tiny_copy / "synhead2_release/background/a00.png",
    ]
    for path in victims:
        path.unlink()
    write.write_miniature(tiny_copy, "tiny", seed=0, jobs=2)
    assert files(tiny_copy) == before


def test_what_a_killed_run_left_half_written_goes(tiny, tiny_copy):
    for name in (
        "hpdb/01/.frame_00003_rgb.png.99999999.part",
        "synhead2_release/BIWI/f01/00/.1.png.99999999.part",
        ".a.json.99999999.part",
    ):
        (tiny_copy / name).write_bytes(b"half")
    write.write_miniature(tiny_copy, "tiny", seed=0, jobs=1)
    assert not list(tiny_copy.rglob("*.part"))
    with locked(tiny_copy, wait=False), pytest.raises(HeadposeError, match="another process is writing here; wait"):
        write.write_miniature(tiny_copy, "tiny", seed=0, jobs=1)


def test_another_seed_gives_others(tmp_path, tiny):
    a, b = (poses.biwi_motion(manifest.read()[0], 12, seed).angles for seed in (0, 1))
    assert np.abs(a - b).max() > 1
    assert len({str(poses.hidden_order(seed)) for seed in range(40)}) > 20


def test_it_does_not_overwrite_what_is_there(tiny, tmp_path):
    with pytest.raises(HeadposeError, match="holds the miniature"):
        write.write_miniature(tiny, "tiny", seed=1, jobs=1)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(HeadposeError, match="not empty and not a miniature"):
        write.write_miniature(tmp_path, "tiny", seed=0, jobs=1)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_its_manifest_is_its_own(tiny):
    table = manifest.read(tiny / "data_manifest.csv")
    found = {}
    for name in biwi.sequences(tiny / "hpdb"):
        found[name] = [frame.number for frame in biwi.list_frames(tiny / "hpdb", name)[0]]
    assert manifest.absent_frames(table, found) == (48, 0)
    found["03"] = found["03"][:-2]
    found["15"] = [found["15"][0] + 1000, *found["15"][1:]]
    assert manifest.absent_frames(table, found) == (48, 3)
    assert {(t.group, t.name): len(synhead.read_angles(t)) for t in synhead.tracks(tiny / "synhead2_release")} == {
        (t.group, t.name): t.poses for t in manifest.listed_tracks(table)
    }


@pytest.mark.parametrize("scale", ["small", "full"])
def test_motion_has_the_statistics_of_the_real_sequences(scale):
    for row in manifest.biwi_rows(manifest.read()).values():
        motion = poses.biwi_motion(row, poses.SCALES[scale].frames, 0)
        assert (np.diff(motion.numbers) > 0).all() and motion.numbers[-1] <= row.last_frame
        means, deviations = np.split(row.statistics, 2)
        error = np.abs(motion.angles.mean(0) - means)
        assert (error < 4 + deviations).all()
        assert (to_matrix(motion.angles)[:, 2, 2] > 0).all()


def test_biwi_tracks_hold_the_smoothed_motion_and_are_rendered_in_the_hidden_order(tiny):
    track = synhead.tracks(tiny / "synhead2_release")[1]  # 02: sequence 03
    motion = poses.biwi_motion(manifest.biwi_rows(manifest.read())["03"], 12, 0)
    camera = biwi._read_calibration(tiny / "hpdb/03/rgb.cal")
    in_depth = from_matrix(camera.rotation.T @ to_matrix(motion.smoothed))
    rows = np.linspace(0, len(in_depth) - 1, 10).round().astype(int)
    expected = in_depth[rows] * poses.hidden_order(0).signs
    assert np.abs(synhead.read_angles(track) - expected).max() < 1e-3


@pytest.mark.parametrize("order", ALL_ORDERS[::5], ids=str)
def test_in_plane_tracks_are_in_plane_under_any_hidden_order(order):
    angles = poses.track_angles(3, 0, 12, None, order, 0)
    rotations = to_matrix(angles, order)
    assert np.allclose(rotations[:6, 2], rotations[0, 2], atol=1e-6)
    assert geodesic(rotations[0], rotations[1:6]).max() > 5


def test_heads_look_where_their_pose_says(tiny):
    """The nose, the part of the outline's circle that is lightest in depth, moves with the pose's axis."""
    root = synhead.find_root(tiny / "synhead2_release")
    shifts, axes = [], []
    for track in synhead.tracks(root):
        for i, rotation in enumerate(to_matrix(synhead.read_angles(track), poses.hidden_order(0))):
            mask = foreground(read_image(track.images_folder("m01") / f"{i:02d}.png")) > 127
            columns = np.nonzero(mask)[1]
            shifts.append(columns.mean() - (mask.shape[1] - 1) / 2)
            axes.append(rotation[0, 2])  # the back of the skull lies along +z, away from the face
    assert np.corrcoef(shifts, axes)[0, 1] > 0.7


def test_meshes_are_closed_and_face_outwards():
    for seed in (1, 2, 3):
        mesh = head_mesh(draw_identity(seed, female=seed == 1), 40, neck=True)
        skull = mesh.triangles[mesh.triangles.max(axis=1) < 40 * 53]
        volume = np.einsum("ni,ni->", mesh.vertices[skull[:, 0]],
                           np.cross(mesh.vertices[skull[:, 1]], mesh.vertices[skull[:, 2]])) / 6  # fmt: skip
        assert 2.5e6 < volume < 9e6  # cubic millimetres: a head with hair and neck
        assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1, abs=1e-6)
        assert ((mesh.colours > 0) & (mesh.colours <= 1)).all()


def test_vertex_normals_of_a_cube_point_along_its_diagonals():
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    from scipy.spatial import ConvexHull

    hull = ConvexHull(corners)
    faces = hull.simplices.copy()
    outward = np.einsum("ni,ni->n", np.cross(*(corners[faces[:, k]] - corners[faces[:, 0]] for k in (1, 2))),
                        hull.equations[:, :3]) > 0  # fmt: skip
    faces[~outward] = faces[~outward][:, [0, 2, 1]]
    normals = vertex_normals(corners, faces)
    assert (np.einsum("ni,ni->n", normals, corners) / np.sqrt(3) > 0.9).all()


def test_both_groups_have_the_cameras_that_are_known(tiny):
    for name, group in (("01", "A"), ("06", "B")):
        camera = biwi._read_calibration(tiny / "hpdb" / name / "rgb.cal")
        assert camera.translation.tolist() == biwi.CALIBRATION_TRANSLATIONS[group]
        ratio = camera.width / biwi.WIDTH
        assert camera.matrix[0, 0] == pytest.approx(517.679 * ratio)


def test_public_loaders_of_synhead_would_read_it_right(tiny):
    """They sort the images by name, and cut a rendered image's size from the backgrounds."""
    root = synhead.find_root(tiny / "synhead2_release")
    for track in synhead.tracks(root):
        names = [path.name for path in synhead.list_images(track, "f01", len(synhead.read_angles(track)))]
        assert names == sorted(names) and len(set(map(len, names))) == 1
    assert synhead.image_name(7, 1000) == "007.png" and synhead.image_name(0, 5) == "00.png"
    for scale in poses.SCALES.values():
        assert min(scale.width, scale.height) >= scale.size


def test_raw_files_have_the_real_layout(tiny, real):
    """Every kind of file of the real frame is in the miniature, line for line and field for field."""
    ours, theirs = tiny / "hpdb/01", real / "hpdb/01"
    stem = sorted(ours.glob("*_pose.txt"))[0].name[:11]
    kinds = {path.name[12:] for path in theirs.glob("frame_00003_*")}
    assert {path.name[12:] for path in ours.glob(f"{stem}_*")} == kinds
    pairs = [(ours / name, theirs / name) for name in ("rgb.cal", "depth.cal")]
    pairs.append((ours / f"{stem}_pose.txt", theirs / "frame_00003_pose.txt"))
    for mine, other in pairs:
        # But for the digits, byte for byte: blank lines are empty, rows end in a space.
        assert re.sub(rb"[-\d.e]+", b"0", mine.read_bytes()) == re.sub(rb"[-\d.e]+", b"0", other.read_bytes())
    vertices, faces = read_mesh(tiny / "hpdb/01.obj")
    real_vertices, _ = read_mesh(real / "hpdb/01.obj")
    assert 5000 < len(vertices) < 9000 and len(faces) > 10000
    assert np.abs(vertices.min(0) - real_vertices.min(0)).max() < 45  # the same origin, millimetres and axes


def test_boxes_of_rendered_heads_are_those_that_the_targets_rule_gives(tiny, tmp_path):
    """The source's boxes lie within half a percent of a side, and two percent of its size, of the target's rule."""
    from headposeplus.boxes import geometry
    from headposeplus.raw.biwi import Calibration, Pose

    root = tiny / "synhead2_release"
    places = synhead.read_head_places(root)
    assert sorted(places) == sorted(synhead.HEADS)
    size = read_image(next((root / "BIWI/f01/00").glob("*.png"))).shape[0]
    k = np.array([[1.9 * size, 0, (size - 1) / 2], [0, 1.9 * size, (size - 1) / 2], [0, 0, 1]])
    camera = Calibration(k, np.zeros(4), np.eye(3), np.zeros(3), size, size)
    rotations = to_matrix(np.random.default_rng(0).normal(0, 25, (200, 3)))
    for place in places.values():
        ours = np.array([geometry.of_rendered(place, r, 0.0, place.pivot) for r in rotations])
        rule = np.array([geometry.projected(Pose(r, np.array([0, 0, 800.0])), camera) for r in rotations])
        away = (ours[:, :2] + ours[:, 2:] / 2 - rule[:, :2] - rule[:, 2:] / 2) / rule[:, 2:]
        assert np.abs(away.mean(axis=0)).max() < 0.005
        assert (ours[:, 2] / rule[:, 2]).mean() == pytest.approx(1, abs=0.02)


@pytest.mark.real
def test_heads_are_where_biwis_are(annotations):
    """The middles of sequences, in the RGB camera, are spread as those of Biwi's own annotations."""
    table = manifest.read()
    groups = manifest.calibration_groups(table)
    means = {"A": [], "B": []}
    for folder in sorted(annotations.iterdir()):
        centres = np.array([biwi.read_pose_bin(path)[0] for path in sorted(folder.glob("*_pose.bin"))])
        camera = biwi.known_camera(groups[folder.name])
        means[groups[folder.name]].append((centres @ camera.rotation.T + camera.translation).mean(axis=0))
    for group, place in stage.PLACES.items():
        assert np.mean(means[group], axis=0) == pytest.approx(place.mean, abs=0.06)
        assert np.std(means[group], axis=0, ddof=1) == pytest.approx(place.deviation, abs=0.06)


def test_labels_are_spread_as_in_the_published_source():
    """Of SynHead++, by Kuhnke & Ostermann's weights: deviations 23.2, 30.7 and 10.7, and 23 % are of SynBiwi+."""
    scale, seed = poses.SCALES["study"], 0
    rows = manifest.biwi_rows(manifest.read())
    motions = {name: poses.biwi_motion(rows[name], scale.frames, seed) for name in scale.sequences}
    order = poses.hidden_order(seed)
    tracks = [
        to_matrix(poses.track_angles(group, i, scale.poses[group], motion, order, seed), order)
        for group in range(4)
        for i, motion in zip(
            range(scale.tracks[group]), [m.smoothed for m in motions.values()] + [None] * 2, strict=False
        )
    ]
    rotations = np.concatenate(tracks)
    synhead_plus = from_matrix(rotations[rotations[:, 2, 2] > 0.1])
    target = np.concatenate([motion.angles for motion in motions.values()])
    assert len(target) / (len(target) + len(synhead_plus)) == pytest.approx(0.23, abs=0.01)
    both = np.concatenate((synhead_plus, target))
    assert both.std(axis=0) == pytest.approx([23.2, 30.7, 10.7], abs=1.5)
    assert both.mean(axis=0) == pytest.approx([-4.1, -2.4, 0.8], abs=1.5)


def test_other_people_have_the_same_poses(tmp_path, tiny):
    write.write_miniature(tmp_path / "others", "tiny", 0, 1, people=7)
    for path in sorted((tmp_path / "others").rglob("*.csv")):
        assert path.read_bytes() == (tiny / path.relative_to(tmp_path / "others")).read_bytes()
    image = "synhead2_release/BIWI/f01/00/00.png"
    assert (tmp_path / "others" / image).read_bytes() != (tiny / image).read_bytes()


def test_a_target_can_be_like_its_source(tmp_path):
    like = stage.Likeness(sensor=True, body=True, light=True, placement=True)
    write.write_target(tmp_path, "tiny", 0, 1, 0, like)
    assert not (tmp_path / "synhead2_release").exists()
    for name in ("01", "06"):
        sequence = biwi.open_sequence(tmp_path / "hpdb", name, "A" if name == "01" else "B")
        for _, pose in sequence.poses():
            assert pose.centre == pytest.approx([0, 0, 800], abs=0.01)
    with pytest.raises(HeadposeError, match="holds the miniature"):
        write.write_target(tmp_path, "tiny", 0, 1, 0, stage.Likeness())
