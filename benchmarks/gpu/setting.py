"""What the GPU's benchmarks share: the scale cifar10 (or a tiny stand-in), random images, the device."""

import torch

SHAPE = (3, 32, 32)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def scale_of(tiny=False, batch=None, compute=None, name="cifar10", params="params.yaml"):
    """The image settings of scale ``name`` for this device; ``tiny``: another network and T, to try the code out;
    ``compute``: {setting: value} that replace those of params.yaml."""
    from reproduction.params import load

    params = load(params)
    scale = params.images[name]
    changes = {"compute": scale.compute.model_copy(update=compute or {})}
    if DEVICE == "cpu":
        changes["machine"] = scale.machine.model_copy(update={"accelerator": "cpu"})
    if tiny:
        changes["network"] = params.images["smoke"].network
        changes["diffusion"] = scale.diffusion.model_copy(update={"timesteps": 20, "variance": "large"})
    if batch:
        changes["pretrain"] = scale.pretrain.model_copy(update={"batch": batch})
    return scale.model_copy(update=changes)


def images_of(count):
    """uint8 [count, 3, 32, 32]: random levels. What they show does not matter to a clock."""
    from mlegfn.randomness import generator

    draw = generator(0, "benchmark images")
    return torch.randint(0, 256, (count, *SHAPE), generator=draw, dtype=torch.uint8)


def synchronize():
    """Wait until the device has done what it was told."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
