"""What samples of images are judged by: a classifier that no model has seen, and how different they are."""

import torch

__all__ = ["Classifier", "agreement", "pairwise_distance"]


class Classifier:
    """A support vector machine (radial kernel) on the training images; it knows nothing of any diffusion model.

    images [N, C, H, W] in [−1, 1]; labels int64 [N].
    """

    def __init__(self, images, labels):
        from sklearn.svm import SVC

        self.machine = SVC(gamma="scale").fit(images.flatten(1).numpy(), labels.numpy())

    def classes(self, images):
        """int64 [N]: the classes it sees; values outside [−1, 1] are clipped."""
        flat = images.clamp(-1, 1).flatten(1)
        return torch.from_numpy(self.machine.predict(flat.numpy())).long()

    def accuracy(self, images, labels):
        """The share of images [N, C, H, W] that it gives their label [N]."""
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images have {len(labels)} labels")
        return (self.classes(images) == labels).double().mean().item()


def pairwise_distance(images):
    """Mean over all pairs of the root mean square difference of two of images [N, ...], in the units of a pixel."""
    if len(images) < 2:
        raise ValueError("a distance between pairs needs at least two images")
    flat = images.clamp(-1, 1).flatten(1).double()
    return (torch.pdist(flat).mean() / flat.shape[1] ** 0.5).item()


def agreement(classes):
    """The share of pairs of one group whose classes [N] are equal."""
    if len(classes) < 2:
        raise ValueError("a share of pairs needs at least two images")
    equal = (classes[:, None] == classes).sum().item() - len(classes)
    return equal / (len(classes) * (len(classes) - 1))
