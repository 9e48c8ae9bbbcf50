"""scikit-learn's handwritten digits: 1,797 grey images of 8×8 in 17 levels, embedded in the package.

E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI, 1998.
"""

import torch

from mlegfn.data.images import Images

__all__ = ["load", "split"]


def load() -> Images:
    """All digits in a fixed split: 1,437 to train on, 360 to test, every class in equal shares."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)  # [1797, 1, 8, 8], levels 0 … 16
    labels = torch.from_numpy(digits.target).long()
    test = split(labels)
    return Images(
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
        levels=17,
        label="digits",
        classes=10,
        source="digits",
    )


def split(labels: torch.Tensor) -> torch.Tensor:
    """Which images are for testing, bool [N]: every fifth of the images ordered by class.

    Every fifth in the data's own order would be wrong: whole stretches of it count 0, 1, …, 9, so that a
    stride of five meets two classes only.
    """
    test = torch.zeros(len(labels), dtype=torch.bool)
    test[torch.argsort(labels, stable=True)[::5]] = True
    return test
