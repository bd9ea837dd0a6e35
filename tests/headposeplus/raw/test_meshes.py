import re
import shutil

import numpy as np
import pytest

from headposeplus.errors import RawDataError
from headposeplus.raw.meshes import mesh_file, read_mesh


def test_numbers_below_zero_count_from_the_last(tiny, tmp_path):
    vertices, triangles = read_mesh(tiny / "hpdb/01.obj")
    path = tmp_path / "a.obj"
    lines = ["# Müller's"]
    last = 0
    for face in triangles:  # each among the vertices that it needs: as writers of several parts do
        for vertex in vertices[last : face.max() + 1]:
            lines.append("v {:.10f} {:.10f} {:.10f}".format(*vertex))
        last = max(last, int(face.max()) + 1)
        lines.append("f " + " ".join(f"{corner - last}//{corner - last}" for corner in face))
    path.write_text("\n".join(lines), encoding="latin-1")
    again, same = read_mesh(path)
    assert (same == triangles).all() and np.abs(again - vertices[: len(again)]).max() < 1e-9


SQUARE = ["v 0 0 0", "v 1 0 0", "v 1 1 0", "v 0 1 0"]


@pytest.mark.parametrize(
    ("lines", "line", "says"),
    [
        ([*SQUARE, "f 1 2 3", "f 0 1 2"], 6, "0 is none of the 4 before it"),
        ([*SQUARE, "f 1 2 5"], 5, "5 is none of the 4 before it"),
        ([*SQUARE, "f 1/1 2/1 -5/1"], 5, "-5 is none of the 4 before it"),
        (["v 0 0 0", "v 1 nan 0", *SQUARE, "f 1 2 3"], 2, "no 3 finite numbers"),
        (["v 0 0 0", "v 1 1e999 0", *SQUARE, "f 1 2 3"], 2, "no 3 finite numbers"),
        (["v 0 0", *SQUARE, "f 1 2 3"], 1, "no 3 finite numbers"),
        ([*SQUARE, "f 1 2 3 4"], 5, "a face of 4 corners"),
        ([*SQUARE, "f 1 2 x"], 5, "invalid literal"),
        (SQUARE, None, "found no face"),
        ([], None, "found no face"),
    ],
)
def test_a_mesh_that_is_none(tmp_path, lines, line, says):
    path = tmp_path / "a.obj"
    path.write_text("\n".join(lines))
    with pytest.raises(RawDataError) as raised:
        read_mesh(path)
    place = f"{path}, line {line}" if line else str(path)
    assert str(raised.value).startswith(f"{place}: expected a triangle mesh in the OBJ format") and says in str(
        raised.value
    )
    assert str(raised.value).endswith("; restore it from the raw archive")


def test_a_damaged_mesh_is_told_by_verify(tiny_copy, hpp):
    path = tiny_copy / "hpdb/01.obj"
    path.write_text(re.sub(r"(?m)^f \d+", "f 0", path.read_text(), count=1))
    shutil.move(path, path.with_suffix(".OBJ"))
    arguments = ("verify", "--biwi", tiny_copy, "--manifest", tiny_copy / "data_manifest.csv", "--jobs", 1)
    output = hpp(*arguments, "--deep", expect=3).stdout
    assert mesh_file(tiny_copy / "hpdb", "01") == path.with_suffix(".OBJ")
    (told,) = [line for line in output.splitlines() if line.startswith(str(path.with_suffix(".OBJ")))]
    assert re.search(
        r"01\.OBJ, line \d+: expected a triangle mesh in the OBJ format: 0 is none of the [\d,]+ before", told
    )
