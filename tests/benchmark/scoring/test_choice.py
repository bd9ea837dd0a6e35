"""Which protocol is meant where nobody names one."""

import numpy as np
import pytest

from benchmark.scoring import choice, protocols
from benchmark.scoring.labels import from_arrays
from headposeplus.errors import ChoiceError, SubmissionError
from headposeplus.raw import subsets
from headposeplus.rotations import to_matrix

BIWI = protocols.frames_of(protocols.find("biwi+/cross@1"))
SEQUENCE = np.array(subsets.find("biwi/sequence-19").ids)
PHOTOGRAPHS = protocols.frames_of(protocols.find("aflw2000/cross@1"))
OWN = np.array([f"lab/{who}/{number}" for who in range(4) for number in range(10)])


def labels_of(ids, camera="rgb"):
    angles = np.random.default_rng(0).normal([-12, -8, 2], [20, 25, 10], (len(ids), 3))
    return from_arrays(ids, to_matrix(angles), camera=camera)


def ids_of(found):
    return [one.protocol or one.task for one in found]


def test_what_fits_all_of_biwi_is_listed_by_what_was_trained_on():
    found = choice.choices(BIWI, None)
    assert ids_of(found) == ["biwi+/cross@1", "biwi+/pda@1", "biwi+/da@1"]
    assert [one.trained for one in found] == ["any data but Biwi, such as 300W-LP", "SynHead++", "SynBiwi+"]
    with pytest.raises(ChoiceError) as error:
        choice.choose(found, file="mine.csv")
    assert str(error.value) == (
        "mine.csv: which protocol? That depends on what the network was trained on: "
        "trained on any data but Biwi, such as 300W-LP: `protocol` biwi+/cross@1; "
        "trained on SynHead++: `protocol` biwi+/pda@1; trained on SynBiwi+: `protocol` biwi+/da@1"
    )
    assert ids_of(choice.choices(PHOTOGRAPHS, None)) == ["aflw2000/cross@1", "aflw2000/pda@1"]
    assert ids_of(choice.choices(np.append(BIWI[1:], "mine/1"), None)) == ids_of(found)  # which is told afterwards


def test_the_frames_of_a_sequence_are_a_part_of_each_and_a_split_of_their_own():
    """Of a network that Biwi did not train it is wrong to say that the rest of Biwi did, though just one split fits."""
    more = np.append(SEQUENCE, BIWI[:11])
    for ids, others in ((SEQUENCE, ["biwi+/leave-M11-out@1"]), (more, [])):
        found = choice.choices(ids, None)
        assert ids_of(found) == ["biwi+/cross@1", "biwi+/pda@1", "biwi+/da@1", *others]
        assert [one.subset for one in found] == ["biwi/sequence-19"] * 3 + [""] * len(others)
    assert ids_of(choice.choices(SEQUENCE, None, "biwi/sequence-19")) == ["biwi+/cross@1", "biwi+/pda@1", "biwi+/da@1"]


@pytest.mark.parametrize(
    ("ids", "part"),
    [
        (SEQUENCE, "biwi/sequence-19"),
        (np.array(subsets.find("biwi/fsa-net").ids), "biwi/fsa-net"),
        (np.array(subsets.find("biwi/female").ids), "biwi/female"),
        (SEQUENCE[1:], ""),
        (BIWI[1:], ""),
        (BIWI[:20], ""),
    ],
)
def test_a_subset_is_meant_that_nearly_all_ids_are(ids, part):
    assert subsets.covered(ids) == part


@pytest.mark.parametrize(
    ("trained", "protocol"),
    [
        ("300W-LP", "biwi+/cross@1"),
        ("300W-LP, synthetically turned", None),
        ("synhead ++", "biwi+/pda@1"),
        ("SynBiwi+", "biwi+/da@1"),
        ("SynHead", None),
        ("half of Biwi", None),
        ("", None),
    ],
)
def test_training_data_that_are_told_decide(trained, protocol):
    found = choice.choices(BIWI, None)
    if protocol is None:
        with pytest.raises(ChoiceError):
            choice.choose(found, trained)
    else:
        taken = choice.choose(found, trained)
        assert taken.protocol == protocol and taken.found == f"that of training data {trained!r}"


def test_the_only_one_is_taken_and_none_is_told():
    (one,) = choice.choices(BIWI, None)[:1]
    assert choice.choose([one]).found == "the only one with these frames"
    with pytest.raises(ChoiceError, match="These frames are no frozen one's; name it with `protocol`: hpp protocols"):
        choice.choose([])


def test_labels_of_ones_own_have_the_tasks():
    found = choice.choices(OWN, labels_of(OWN))
    assert ids_of(found) == ["cross", "pda", "da"] and found[0].trained == "any data but these"
    photographs = labels_of(PHOTOGRAPHS[:20])
    assert ids_of(choice.choices(PHOTOGRAPHS[:20], photographs)) == ["cross-aflw2000", "pda-aflw2000"]


def test_labels_that_are_not_those_of_the_frames_are_told():
    with pytest.raises(
        SubmissionError, match=r"m\.csv: no id is one of the labels', the first 'lab/0/0'; give .* biwi/01/00003"
    ):
        choice.choices(OWN, labels_of(BIWI[:50]), file="m.csv")
    with pytest.raises(SubmissionError, match="not the labels of biwi\\+/cross@1"):
        choice.choices(BIWI, labels_of(BIWI))
    with pytest.raises(
        SubmissionError, match="labels of the depth camera, but biwi\\+/cross@1 is about the rgb camera"
    ):
        choice.choices(BIWI, labels_of(BIWI, "depth"))
