"""What several stages read before they call their library function."""

import torch

from mlegfn.data import scale_to_unit
from mlegfn.randomness import onto


class Resident:
    """uint8 levels [N, C, H, W] on the device; indexing gives float32 images in [−1, 1].

    A quarter of the memory of the images themselves, and nothing to copy from the host in training.
    """

    def __init__(self, levels_images, levels, device):
        self.levels_images, self.levels = onto(device, levels_images), levels
        self.device, self.shape = torch.device(device), levels_images.shape

    def __len__(self):
        return len(self.levels_images)

    def __getitem__(self, rows):
        return scale_to_unit(self.levels_images[rows], self.levels)


def unit_images(levels_images, levels, device):
    """uint8 levels [N, C, H, W] → float32 in [−1, 1] on ``device``."""
    return scale_to_unit(levels_images, levels).to(device)


def mean_errors(state, scale, data, images):
    """[T] E‖ε − ε_θ‖²/d of the EMA network on the first training images, or None where nothing needs it.

    Each rank evaluates its share of the images; every rank has to ask.
    """
    from mlegfn.diffusion.likelihood import epsilon_errors
    from mlegfn.training import distributed
    from mlegfn.training.checkpoint import build_network, model_of
    from mlegfn.training.engine import place

    if scale.diffusion.variance != "analytic":
        return None
    averaged = build_network(scale, data.record)
    averaged.load_state_dict(state.ema_weights())
    model = model_of(place(averaged.eval(), scale.engine, images.device), scale, data.levels)
    count = min(scale.diffusion.variance_samples, len(images))
    mine = distributed.share(count)
    batch, parts = scale.nll.batch, []
    group = max(1, 8 * batch // model.timesteps)  # images at once, whose T noises each are in memory together
    for start in range(mine.start, mine.stop, group):
        some = images[start : min(start + group, mine.stop)]
        parts.append(epsilon_errors(model, some, batch=batch, first_index=start))
    found = [part for parts in distributed.gather(parts) for part in parts]
    return torch.cat(found, dim=1).mean(1).tolist()
