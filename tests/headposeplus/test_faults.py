import os
import shlex
import shutil
import subprocess

import pytest

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, plural, remarked, said, shell_line, shown
from headposeplus.files import locked


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("damaged", "delete it", "a.h5"), "a.h5: damaged; delete it (5 faults)"),
        (Fault("damaged", file="a.h5"), "a.h5: damaged (5 faults)"),
    ],
)
def test_a_remark_stands_behind_the_last_words(fault, text):
    assert str(remarked(fault, "5 faults")) == text


def test_a_stranger_s_text_names_no_parameter():
    assert shown("`out`") == repr("'out'") and said("a\n`out` b", 7) == "a 'out'"


def test_a_lock_that_cannot_be_written_names_its_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(HeadposeError, match=r"file/below/\.lock: cannot be written: "),
        locked(tmp_path / "file" / "below", wait=False),
    ):
        pass


ODD = ["plain", "", "two  spaces", "it's", 'a "b"', "$HOME `id` $(id) !x", "a*?[b]", "semi;colon & more | <x>",
       "back\\slash", "naïve ✓", "new\nline\ttab", os.fsdecode(b"caf\xe9'\\ \xff1"), "#x", "~", "a=b"]  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_command_is_one_line_that_a_shell_takes():
    line = shell_line("printf", r"%s\0", *ODD)
    assert line.isprintable() and shell_line("hpp", "score", "a/b.csv") == "hpp score a/b.csv"
    done = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True)
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]] == ODD
    assert shlex.split(shell_line("hpp", *ODD[:10])) == ["hpp", *ODD[:10]]
    shell_line("\ud800").encode()  # half of a pair names no file, and ends no command either


def test_a_number_goes_with_its_words():
    found = [plural(number, "id is", "ids are") for number in (0, 1, 2, 1200)]
    assert found == ["0 ids are", "1 id is", "2 ids are", "1,200 ids are"]
    assert (plural(1, "frame"), plural(2, "frame")) == ("1 frame", "2 frames")
