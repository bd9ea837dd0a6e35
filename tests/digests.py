"""Datasets that a test has changed on purpose, and that are to count as built so."""

import json

from headposeplus.files import sha256


def sign(folder):
    """Let the ``dataset.json`` of a dataset, or of each in a build's folder, say the SHA-256 that its shards have."""
    for path in [folder / "dataset.json"] if (folder / "dataset.json").exists() else folder.glob("*/dataset.json"):
        info = json.loads(path.read_text())
        for shard in info["shards"]:
            shard["sha256"] = sha256(path.parent / shard["file"])
        path.write_text(json.dumps(info))
    return folder
