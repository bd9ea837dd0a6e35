"""Named subsets of Biwi: splits by sequence, everyone left out in turn, lists of frames, and files of frames.

``subsets.csv`` holds a row a subset: its sequences, how many frames those have, the hash of their ids, and where
the subset comes from; ``frame_lists.csv`` has the frames of those that are not whole sequences. Of the literature's
random splits one was published, that of Hybrid Coarse-Fine Classification (``biwi/accurate-head-pose``). For the
others there are splits here that are drawn by a rule which anyone can repeat: a split's sequences are ranked by the
SHA-256 of a line such as ``biwi/16-8 seed 0 sequence 01``, and the first 16 train. ``python -m
headposeplus.raw.subsets`` writes ``subsets.csv`` anew.

A named subset has only frames of Biwi, a file may name those of another target. The hash says which: under the
manifest of a miniature, or of any other partial copy, a named subset holds the frames that the manifest lists, and so
has another hash than the file's.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headposeplus import archives, tables
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, plural, said, shown, unreadable
from headposeplus.files import opened_npz, parse_json, write_text
from headposeplus.raw import manifest
from headposeplus.raw.ids import frame_id, id_column
from headposeplus.raw.targets import FORMS, listed_ids, parse_frame
from headposeplus.sheets import OWN, is_json, read_rows, read_text

FILE = Path(__file__).with_name("subsets.csv")
FRAME_LISTS = Path(__file__).with_name("frame_lists.csv")
SEED = 0
TRAIN_SEQUENCES = {"biwi/16-8": 16, "biwi/70-30-1": 17, "biwi/70-30-2": 17, "biwi/70-30-3": 17}

_DRAWN = (
    "Drawn here: the sequences ranked by the SHA-256 of the lines 'SPLIT seed {seed} sequence 01' to 24, SPLIT being "
    "the split's name; the first {count} train. {like} Which sequences those drew was never published, "
    "so figures under this one compare with theirs only as figures of the same kind."
)
_LIKE = {
    16: "16 to 8 sequences as in Gu et al. CVPR 2017 and in protocol 2 of FSA-Net (Yang et al. CVPR 2019), whose "
    "script permutes the sequences without a seed.",
    17: "One of three, to be averaged, as Hopenet (Ruiz et al. CVPRW 2018) averages three 70-30 splits of the videos.",
}
_LEFT_OUT = "Every sequence of one subject is the test set, both where the subject was recorded twice; the rest train."
_PUBLISHED_SPLITS = {
    "biwi/accurate-head-pose": (
        {"01", "10", "23"},
        "The split of Hybrid Coarse-Fine Classification (Wang et al., arXiv 1901.06778), one of its kind whose members "
        "are published: tools/BIWI_test.txt in github.com/haofanwang/accurate-head-pose holds sequences 01, 10 and 23.",
    )
}
_RANKED = (
    "VGGT-HPE (github.com/VasilikiVas/vggt-hpe), protocols/{file}: of each sequence the five frames that are {which}, "
    "by the geodesic distance of the depth camera's pose. The anchors that it measures them against, the three frames "
    "nearest to the identity, are no part of the subset."
)
_LISTS = {
    "biwi/fsa-net": (
        "The 13,219 frames in which FSA-Net (Yang et al. CVPR 2019) found a face by MTCNN, and on which most of the "
        "literature since then tests. As OPAL (Cobo et al., Pattern Recognition 2024) lists them in biwi_ann.txt: "
        "github.com/pcr-upm/opal23_headpose, revision eaf6cb3."
    ),
    "biwi/vggt-hpe/hard": _RANKED.format(file="table2_hard_pairs.csv", which="farthest from the identity"),
    "biwi/vggt-hpe/easy": _RANKED.format(file="table3_easy_pairs.csv", which="fourth to eighth nearest the identity"),
}
_SEX = "Every sequence of the subjects whom the database names {letter}01 and so on."
_SEQUENCE = re.compile(r"biwi/sequence-(0[1-9]|1\d|2[0-4])")
_EXPECTED = "a text file with a Biwi frame a line, an npz with images, or JSON"
_MEND = f"expected {_EXPECTED}"
_NEARLY = 0.9  # share of the ids at hand that a subset must be to be meant


class _Definition(NamedTuple):
    """A row of ``subsets.csv``. What there are several of is parted by spaces."""

    name: str
    split: str
    part: str
    sequences: str
    subjects: str
    straddling_subjects: str
    frames: int
    frames_sha256: str
    source: str


class Subset(NamedTuple):
    """A subset of a target: its name, the sorted ids of its frames, their hash, and where it comes from."""

    name: str
    ids: tuple[str, ...]
    sha256: str
    source: str


def _ids(frames: dict[str, list[int]], sequences: list[str], subset: str = "") -> Iterator[str]:
    """Yield the ids of the sequences' frames, of those that there are; of a subset's list, if it has one."""
    listed = frame_lists().get(subset)
    for name in sequences:
        for number in frames.get(name, []):
            if listed is None or number in listed[name]:
                yield frame_id(name, number)


@cache
def frame_lists() -> dict[str, dict[str, frozenset[int]]]:
    """Return the frame numbers by sequence of each subset that is a list of frames."""
    lists: dict[str, dict[str, frozenset[int]]] = {}
    with FRAME_LISTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            numbers = frozenset(manifest.from_ranges(row["frame_numbers"]))
            lists.setdefault(row["subset"], {})[row["sequence"]] = numbers
    return lists


def _drawn(split: str, sequences: list[str], train: int) -> list[str]:
    """Return the sequences that train, sorted: the first by the rule of the module's docstring."""

    def rank(sequence: str) -> str:
        return hashlib.sha256(f"{split} seed {SEED} sequence {sequence}".encode()).hexdigest()

    return sorted(sorted(sequences, key=rank)[:train])


def _splits(subject: dict[str, str]) -> dict[str, tuple[set[str], str]]:
    """Return the sequences that test in each split, and the split's source, from each sequence's subject."""
    splits: dict[str, tuple[set[str], str]] = {}
    for split, count in TRAIN_SEQUENCES.items():
        source = _DRAWN.format(seed=SEED, count=count, like=_LIKE[count])
        splits[split] = (subject.keys() - set(_drawn(split, sorted(subject), count)), source)
    for who in sorted(set(subject.values())):
        splits[f"biwi/leave-{who}-out"] = ({name for name in subject if subject[name] == who}, _LEFT_OUT)
    return splits | _PUBLISHED_SPLITS


def generate() -> str:
    """Return the text of ``subsets.csv``, drawn and counted anew from the manifest of the real Biwi."""
    table = manifest.read()
    frames, subject = manifest.biwi_frames(table), manifest.biwi_subjects(table)

    def define(split: str, part: str, members: list[str], others: list[str], source: str) -> _Definition:
        name = f"{split}/{part}" if part else split
        ids = sorted(_ids(frames, members, name))
        people = {subject[name] for name in members}
        straddling = people & {subject[name] for name in others}
        lists = (" ".join(members), " ".join(sorted(people)), " ".join(sorted(straddling)))
        return _Definition(name, split, part, *lists, len(ids), manifest.ids_sha256(ids), source)

    rows = []
    for split, (held_out, source) in _splits(subject).items():
        train, test = sorted(subject.keys() - held_out), sorted(held_out)
        rows += [define(split, "train", train, test, source), define(split, "test", test, train, source)]
    for name, letter in (("biwi/female", "F"), ("biwi/male", "M")):
        members = sorted(sequence for sequence in subject if subject[sequence].startswith(letter))
        rows.append(define(name, "", members, [], _SEX.format(letter=letter)))
    rows += [define(name, "", sorted(frame_lists()[name]), [], source) for name, source in _LISTS.items()]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([_Definition._fields, *rows])
    return out.getvalue()


@cache
def _definitions() -> dict[str, _Definition]:
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = [_Definition(**row) for row in csv.DictReader(file)]  # type: ignore[arg-type]
    return {row.name: row._replace(frames=int(row.frames)) for row in rows}


def names() -> list[str]:
    """Return the names of all named subsets, but for those of single sequences: ``biwi/sequence-01`` and so on."""
    return list(_definitions())


def is_name(text: str) -> bool:
    """Return whether a text is the name of a subset, and no file's."""
    return text in _definitions() or _SEQUENCE.fullmatch(text) is not None


def _definition(name: str) -> _Definition:
    """Return what a name stands for."""
    match = _SEQUENCE.fullmatch(name)
    if not match:
        return _definitions()[name]
    table = manifest.read()
    who = manifest.biwi_subjects(table).get(match[1], "nobody")
    ids = sorted(_ids(manifest.biwi_frames(table), [match[1]]))
    source = f"All frames of sequence {match[1]}, in which {who} was recorded."
    return _Definition(name, name, "", match[1], who, "", len(ids), manifest.ids_sha256(ids), source)


def find(name_or_file: str | Path, manifest_file: Path | None = None) -> Subset:
    """Return a named subset, or that of a file of frames, which is called ``file:STEM``.

    A file holds a frame a line: ``biwi/01/00003``, or ``01/frame_00003_rgb.png`` with any folders before it, or a
    photograph such as ``aflw2000/image00002`` or ``image00002.jpg``. Blank lines and those that begin with # do not
    count. A CSV with a column ``id`` (or another of :data:`headposeplus.raw.ids.ID_COLUMNS`) or with the frame in its
    first cell, an npz with ``images``, and JSON whose keys
    are frames will do as well. ``manifest_file`` lists the frames that there are; None means those of the real
    datasets, under which the hash of a named subset is that of ``subsets.csv``.

    Raises
    ------
    DatasetError
        If there is no such subset or file, or the file names a frame twice, an unknown one, or none.
    """
    if not str(name_or_file):
        raise DatasetError("`subset` is empty: hpp subsets lists those that have names")
    table = manifest.read(manifest_file)
    if not is_name(str(name_or_file)):
        return _from_file(Path(name_or_file), listed_ids(table))
    frames = manifest.biwi_frames(table)
    row = _definition(str(name_or_file))
    ids = sorted(_ids(frames, row.sequences.split(), row.name))
    if not ids:
        what = f"lists no frame of the subset {row.name}, whose sequences are {row.sequences}"
        raise DatasetError(Fault(what, file=manifest_file or manifest.default_path()))
    source = row.source
    if row.straddling_subjects:
        source += f" In train and in test, recorded twice: {row.straddling_subjects}."
    return Subset(row.name, tuple(ids), manifest.ids_sha256(ids), source)


def _cells(path: Path) -> list[tuple[int, str]]:
    """Return what names a frame in each line that counts of a file, or in each row, with its number."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        known = [*names(), *(f"biwi/sequence-{number:02d}" for number in range(1, 25))]
        near = difflib.get_close_matches(str(path), known, 2, 0.7) or ["biwi/16-8/test"]
        mend = f"hpp subsets lists those that have names, such as {' and '.join(near)}"
        raise DatasetError(Fault("no such subset, and no such file", mend, path)) from error
    except OSError as error:
        raise DatasetError(unreadable(path, error, _EXPECTED)) from error
    try:
        data = archives.table_in(data, OWN)
        if archives.is_zip(data):
            return list(enumerate(_arrays_ids(path, data), 1))
        text = read_text(data, _MEND) if data.strip() else ""
        return list(enumerate(_json_ids(path, text), 1)) if is_json(text) else _lines_ids(text)
    except DatasetError as error:
        raise DatasetError(error.fault._replace(file=path)) from error


def _json_ids(path: Path, text: str) -> list[str]:
    """Return the frames that are the keys, or the texts, of JSON."""
    try:
        return list(map(str, parse_json(text)))
    except ValueError as error:
        raise DatasetError(Fault(f"expected {_EXPECTED}: {said(error)}", file=path)) from error


def _arrays_ids(path: Path, data: bytes) -> list[str]:
    """Return the frames of an npz file's array ``images``, ``id`` or another that may name them."""
    try:
        with opened_npz(data) as file:
            texts = file[id_column(file.files)] if id_column(file.files) else None
    except ValueError as error:
        raise DatasetError(Fault(f"expected {_EXPECTED}: {said(error)}", file=path)) from error
    if texts is None or texts.dtype.kind != "U" or texts.ndim != 1:
        raise DatasetError(Fault("no array images of n texts", _MEND, path))
    return [str(text) for text in texts]


def _lines_ids(text: str) -> list[tuple[int, str]]:
    """Return the number of each line that counts, and its frame: the line, its first cell, or that of its column."""
    found = []
    column = None
    for row in read_rows(text, _MEND):
        cells = [cell.strip() for cell in row.cells]
        if column is None:
            names = [cell.lower() for cell in cells]
            column = names.index(id_column(names)) if id_column(names) else -1
            if column >= 0:
                continue
        whole = column < 0 and (len(cells) == 1 or parse_frame(cells[0]) is None)
        cell = row.text.strip(' "') if whole else cells[max(column, 0)] if column < len(cells) else ""
        found.append((row.line, cell))
    return found


def sizes() -> dict[str, int]:
    """Return how many frames each named subset has, but for those of single sequences."""
    return {row.name: row.frames for row in _definitions().values()}


def largest_within(ids: Collection[str]) -> str:
    """Return the name of the largest subset of which no frame is missing among some ids; empty if there is none."""
    frames, have = manifest.biwi_frames(manifest.read()), set(ids)
    whole = {name for name in frames if have.issuperset(_ids(frames, [name]))}
    found = [(len(frames[name]), f"biwi/sequence-{name}") for name in whole]
    for row in _definitions().values():
        sequences = row.sequences.split()
        of_list = row.name in frame_lists()
        if have.issuperset(_ids(frames, sequences, row.name)) if of_list else whole.issuperset(sequences):
            found.append((row.frames, row.name))
    return max(found, key=lambda subset: (subset[0], -len(subset[1])), default=(0, ""))[1]


def in_order(name_or_file: str) -> list[str]:
    """Return the ids of a named subset's frames, sorted, or of a file's in its own order.

    Raises
    ------
    DatasetError
        As :func:`find` does.
    """
    if is_name(name_or_file):
        return list(find(name_or_file).ids)
    return list(_lines(Path(name_or_file), listed_ids(manifest.read())))


def _from_file(path: Path, listed: dict[str, list[str]]) -> Subset:
    """Return the subset of a file, whose frames are among those that are ``listed`` of each target."""
    ids = sorted(_lines(path, listed))
    return Subset(f"file:{path.stem[:40]}", tuple(ids), manifest.ids_sha256(ids), f"the file {path.name} of its user")


def _lines(path: Path, listed: dict[str, list[str]]) -> dict[str, int]:
    """Return the frames of a file in its order, each with its line; they are among those ``listed`` of each target."""
    known = {name for frames in listed.values() for name in frames}
    counts = Counter(name.partition("/")[0] for name in known)
    lines: dict[str, int] = {}
    for number, cell in _cells(path):
        name = parse_frame(cell)
        if name is None:
            what = f"expected {FORMS}, found {shown(cell)}"
        elif name not in known:
            what = f"{name} is not among the {counts[name.partition('/')[0]]:,} frames of the manifest"
        elif name in lines:
            what = f"{name} comes twice, first in line {lines[name]}"
        else:
            lines[name] = number
            continue
        raise DatasetError(Fault(what, file=path, rows=(number,)))
    if not lines:
        raise DatasetError(Fault("names no frame", "expected one a line, such as biwi/01/00003", path))
    return lines


def covered(ids: np.ndarray, manifest_file: Path | None = None) -> str:
    """Return the name of the largest subset that has all its frames among the ids (n,), and nearly all of these.

    Empty if there is none: frames that lie anywhere are no subset, and of a whole test set that lacks a few frames none
    is meant. Parts that train are never tested.
    """
    given, best, most = set(ids.tolist()), "", _NEARLY * len(ids)
    frames = manifest.biwi_frames(manifest.read(manifest_file))
    rows = [(f"biwi/sequence-{name}", [name]) for name in frames]
    rows += [(row.name, row.sequences.split()) for row in _definitions().values() if row.part != "train"]
    for name, sequences in rows:
        if all(wanted in given for wanted in _ids(frames, sequences, name)):  # of most subsets the first is not
            count = sum(1 for _ in _ids(frames, sequences, name))
            if count > most:
                best, most = name, count
    return best


def select(subset: Subset, ids: np.ndarray) -> np.ndarray:
    """Return the positions, ascending, of the subset's frames among the ids (n,) of a dataset's rows.

    Raises
    ------
    DatasetError
        If any frame of the subset is absent.
    """
    position = {str(name): i for i, name in enumerate(ids.tolist())}
    absent = [name for name in subset.ids if name not in position]
    if absent:
        of_all = f"of its {len(subset.ids):,} frames"
        what = f"{plural(len(absent), f'{of_all} is', f'{of_all} are')} not in the dataset, the first {absent[0]}"
        mend = "use a dataset with all of them, or the manifest of the copy that it was built from"
        raise DatasetError(Fault(what, mend, subset.name))
    return np.sort(np.array([position[name] for name in subset.ids], dtype=np.int64))


def plain() -> list[dict[str, object]]:
    """Return what is known of all named subsets as plain values."""
    lists = ("sequences", "subjects", "straddling_subjects")
    return [row._asdict() | {name: getattr(row, name).split() for name in lists} for row in _definitions().values()]


def table() -> str:
    """Return all named subsets as a table, and below it where they come from."""
    rows = [
        {
            "subset": row.name,
            "frames": f"{row.frames:,}",
            "sequences": manifest.to_ranges(map(int, row.sequences.split())),
            "people in both parts": row.straddling_subjects or "none",
            "sha256": row.frames_sha256[:8],
        }
        for row in _definitions().values()
    ]
    lines = []
    splits_of_sources: dict[str, list[str]] = {}
    for row in _definitions().values():
        splits_of_sources.setdefault(row.source, []).append(row.split)
    for source, splits in splits_of_sources.items():
        named = f"{splits[0]} to {splits[-1]}" if len(set(splits)) > 1 else splits[0]
        lines.append(f"{named}: {source}")
    lines += ["", "biwi/sequence-01 to biwi/sequence-24 are the frames of one sequence each."]
    lines.append("A file of frames, one a line, is a subset as well; its hash says which.")
    return "\n".join([tables.table(rows), "", *tables.prose(*lines)])


if __name__ == "__main__":
    write_text(FILE, generate())
