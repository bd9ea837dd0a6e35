import pytest

from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault, remarked, said, shown
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
        pytest.raises(HeadposeError, match=r"file/below: cannot be written: "),
        locked(tmp_path / "file" / "below", wait=False),
    ):
        pass
