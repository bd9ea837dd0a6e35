import pytest

from headposeplus.raw.ids import parse_frame


@pytest.mark.parametrize(
    "text",
    [
        "biwi/01/00003",
        "01/frame_00003",
        "01/frame_00003_rgb.png",
        "01/frame_00003_rgb.jpg",
        "01/frame_00003_pose.txt",
        "faces_0/01/frame_00003_rgb.png",
        "/data/kinect_head_pose_db/01/frame_00003_rgb.png",
        r"D:\biwi\hpdb\01\frame_00003_rgb.png",
        "01_frame_00003_rgb.png",
        "faces_0_01_frame_00003_rgb.png",
        "crops/01_frame_00003",
    ],
)
def test_a_frame_is_known_however_it_is_written(text):
    assert parse_frame(text) == "biwi/01/00003"


@pytest.mark.parametrize(
    "text",
    ["", "00003", "biwi/1/3", "frame_00003_rgb.png", "01/frame_3_rgb.png", "001/frame_00003", "01/frame_00003_mask",
     "synbiwi/01/00003/f01", "biwi/01/00003/f01", "x01/frame_00003"],
)  # fmt: skip
def test_other_texts_name_no_frame(text):
    assert parse_frame(text) is None
