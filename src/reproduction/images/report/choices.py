"""The table of the search: every combination of settings that an arm tried on validation images."""

import pandas

COLUMNS = [
    "arm",
    "weight",
    "lr",
    "warmup",
    "bits_per_dim",
    "clipped_share",
    "chosen",
    "note",
    "images",
    "checkpoint",
    "seed",
]


def frame(metrics):
    """One row a combination."""
    rows = [
        {
            "arm": arm,
            **tried["trial"],
            **{key: tried.get(key) for key in ("bits_per_dim", "clipped_share", "images")},
            "note": note(tried),
            "chosen": tried["trial"] == choice["chosen"],
            "checkpoint": choice["checkpoint"],
            "seed": choice["seed"],
        }
        for arm, choice in metrics.choices.items()
        for tried in choice["tried"]
    ]
    return pandas.DataFrame(rows, columns=COLUMNS)


def note(tried):
    """Why a combination has no NLL, in a word; empty where it has one."""
    if tried["bits_per_dim"] is not None:
        return ""
    return "not measured: the only one" if tried.get("why") == "the only one" else "diverged"


def caption(metrics):
    search = metrics.settings.finetune.all.search
    return (
        f"**Search** (scale `{metrics.name}`): every arm from checkpoint {search.checkpoint} of seed {search.seed}, "
        f"{metrics.steps[-1]} steps, measured on {metrics.settings.data.validation} images that were cut from the training "
        "images and that no model is trained on. The lowest is chosen; every arm tries equally many."
    )
