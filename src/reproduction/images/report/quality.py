"""The table of sample quality: one row a model, and above them what training images give, the floor."""

import pandas

MEASURES = ("pixels", "patches")
COLUMNS = [
    *("model", "checkpoint", "step", "images"),
    *(f"swd_{key}{end}" for key in MEASURES for end in ("", "_deviation", "_over_floor")),
    *("fid", "inception_score", "inception_score_deviation", "note"),
]
FLOOR = "training images (floor)"


def frame(metrics):
    """The floor, the baseline and every arm: one row each."""
    files = metrics.quality()
    first = next(iter(files.values()))
    floor = first["floor"]["sliced_wasserstein"]
    rows = [
        {
            "model": FLOOR,
            "images": first["images"],
            **{f"swd_{key}": floor[key]["mean"] for key in MEASURES},
            **{f"swd_{key}_deviation": floor[key]["standard_deviation"] for key in MEASURES},
            **_inception(first["floor"], first["why"]),
        }
    ]
    for value in files.values():
        own = value["sliced_wasserstein"]
        rows.append(
            {
                "model": value["arm"],
                "checkpoint": value["checkpoint"],
                "step": value["step"],
                "images": value["images"],
                **{f"swd_{key}": own[key] for key in MEASURES},
                **{f"swd_{key}_over_floor": own[key] / floor[key]["mean"] for key in MEASURES},
                **_inception(value, value["why"]),
            }
        )
    return pandas.DataFrame(rows, columns=COLUMNS).astype({"checkpoint": "Int64", "step": "Int64"})


def _inception(value, why):
    score = value["inception_score"] or {"mean": None, "standard_deviation": None}
    return {
        "fid": value["fid"],
        "inception_score": score["mean"],
        "inception_score_deviation": score["standard_deviation"],
        "note": why,
    }


def caption(metrics):
    """What the numbers are, and what they are not."""
    value = next(iter(metrics.quality().values()))
    shown, draws = metrics.settings.trajectories, value["floor"]["draws"]
    scores = (
        f"FID and Inception Score: {value['why']}."
        if value["why"]
        else "FID and Inception Score by torch-fidelity, on images scaled up to 299 × 299; both are biased by the "
        "number of images, so they compare with the rows here and not with published values of 50,000."
    )
    return (
        f"**Sample quality** (scale `{metrics.name}`): {value['images']} samples of each model against as many test "
        f"images of `{metrics.data}`, T = {value['timesteps']}, from checkpoint {shown.checkpoint}, seed "
        f"{shown.pretrain_seed}, equal noise for all; samples are rounded to the {value['levels']} levels and clipped "
        "to their range. SWD: sliced Wasserstein distance W_2 of pixel values in [−1, 1] over "
        f"{value['projections']} directions, of whole images and of {value['patches_per_image']} patches of "
        f"{value['patch']} × {value['patch']} an image; lower is better, and zero cannot be reached with so few "
        f"images. Floor: as many training images in the samples' place, mean ± standard deviation of {draws} draws: "
        "what perfect samples of the training distribution would give. There is one set of samples a model, so a "
        "difference of the size of the floor's standard deviation says nothing. SWD sees pixels, not meaning: it is "
        f"no FID, and it does not notice a model that copies its training images. {scores}"
    )
