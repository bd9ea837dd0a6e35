"""Made-up assets in MakeHuman's formats: a ball for a head, patches for eyes, brows, lashes and hair."""

import cv2
import numpy as np

MIDDLE, RADII = np.array([0.0, 7.0, 0.5]), np.array([0.8, 1.5, 1.0])


def ball(rows):
    """Return the vertices, faces (quadrilaterals) and uv of a cube blown up to a ball."""
    steps = np.linspace(-1, 1, rows + 1)
    u, v = np.meshgrid(steps, steps, indexing="ij")
    vertices, faces, uv = [], [], []
    for axis in range(3):
        for side in (-1, 1):
            points = np.zeros((*u.shape, 3))
            points[..., axis] = side
            points[..., (axis + 1) % 3], points[..., (axis + 2) % 3] = u, v
            start, number = len(vertices), np.arange(u.size).reshape(u.shape)
            vertices += points.reshape(-1, 3).tolist()
            corners = np.stack((number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]), -1).reshape(-1, 4)
            faces += (start + (corners if side > 0 else corners[:, ::-1])).tolist()
            # Each side of the cube has a sixth of the texture.
            uv += np.column_stack((((u.ravel() + 1) / 2 + 2 * axis + (side > 0)) / 6, (v.ravel() + 1) / 2)).tolist()
    vertices, where = np.unique(np.round(vertices, 9), axis=0, return_inverse=True)
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    return vertices, where.ravel()[np.array(faces)], np.array(uv)[np.array(faces)]


def obj_text(vertices, faces, uv, groups):
    """Return a Wavefront file; faces may have any number of corners."""
    lines = ["# made up", *("v {:.6f} {:.6f} {:.6f}".format(*vertex) for vertex in vertices)]
    lines += ["vt {:.6f} {:.6f}".format(*corner) for face in uv for corner in face]
    number, last = 1, None
    for face, corners, group in zip(faces, uv, groups, strict=True):
        if group != last:
            lines.append(f"g {group}")
            last = group
        lines.append("f " + " ".join(f"{vertex + 1}/{number + k}" for k, vertex in enumerate(face)))
        number += len(corners)
    return "\n".join(lines) + "\n"


def base_text(rows=10):
    vertices, faces, uv = ball(rows)
    vertices = vertices * RADII + MIDDLE
    faces, uv, groups = faces.tolist(), uv.tolist(), ["body"] * len(faces)
    for name, place in {"neck": (0, 5.95, 0.3), "head": (0, 6.9, 0.3), "jaw": (0, 6.2, 1.2)}.items():
        start = len(vertices)
        vertices = np.vstack((vertices, np.add(place, [[-0.1, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, -0.1, 0]])))
        faces.append([start, start + 1, start + 2, start + 3])
        uv.append([[0.5, 0.5]] * 4)
        groups.append(f"joint-{name}")
    return obj_text(vertices, faces, uv, groups), vertices


def picture(rng, side, opaque=True):
    image = cv2.resize(rng.integers(40, 230, (side // 4, side // 4, 4), dtype=np.uint8), (side, side))
    image[..., 3] = 255 if opaque else image[..., 3]
    return image


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        cv2.imwrite(str(path), content)


def write_patch(folder, name, base, place, rng, opaque):
    """Write a patch, a quadrilateral and a triangle, that hangs on the base mesh's vertices near ``place``."""
    near = np.argsort(np.linalg.norm(base - place, axis=1))[:5]
    faces, uv = [[0, 1, 2, 3], [2, 1, 4]], [[[0, 0], [1, 0], [1, 1], [0, 1]], [[1, 1], [1, 0], [0.5, 0.5]]]
    write(folder / f"{name}.obj", obj_text(base[near], faces, uv, ["patch"] * 2))
    rows = [f"{near[0]}", *(f"{n} {near[0]} {near[1]} 0.8 0.1 0.1 0.0 0.01 0.05" for n in near[1:])]
    scales = f"x_scale {near[0]} {near[1]} 0.3\n"
    write(folder / f"{name}.mhclo", f"# made up\nobj_file {name}.obj\n{scales}verts 0\n" + "\n".join(rows) + "\n")
    write(folder / f"{name}.mhmat", f"name {name}\ndiffuseTexture {name}_diffuse.png\n")
    write(folder / f"{name}_diffuse.png", picture(rng, 32, opaque))


def write_assets(root, people):
    """Write all that some people are made of, in the folders of MakeHuman's two repositories."""
    rng = np.random.default_rng(0)
    data, assets = root / "makehuman/makehuman/data", root / "makehuman-assets/base"
    text, base = base_text()
    write(data / "3dobjs/base.obj", text)
    for who in people:
        units = [name for parts in who.units().values() for name in parts]
        for name in (*who.targets, *units):
            moved = rng.integers(len(base) - 12, size=3)
            write(data / "targets" / name, "# made up\n" + "".join(f"{n} .02 -.01 0.015\n" for n in moved))
        for image in (who.skin, who.iris):
            write(assets / "textures" / image, picture(rng, 256))
        front, above, top = (MIDDLE + np.array(at) for at in ((0.2, 0.2, 1.0), (0.2, 0.4, 1.0), (0.1, 1.4, 0.2)))
        for tail, place, opaque in (
            (who.eyes, front, True), (f"eyebrows/{who.brows}", above, False),
            (f"eyelashes/{who.lashes}", front, False), (who.hair, top, False),
        ):  # fmt: skip
            path = assets / tail
            write_patch(path.parent, path.stem, base, place, rng, opaque)
    return root
