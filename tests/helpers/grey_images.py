"""Images for folders of diffusers' kind."""

import numpy as np
from PIL import Image


def grey_images(parent):
    """A folder of grey images of 8×8 in 256 levels, three to train on and three to test."""
    root = parent / "grey"
    for index, name in enumerate(("train", "test")):
        (root / name / "a").mkdir(parents=True)
        for k in range(3):
            levels = np.random.default_rng(10 * index + k).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(levels).save(root / name / "a" / f"{k}.png")
    return root
