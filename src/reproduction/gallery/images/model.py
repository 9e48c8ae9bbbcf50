"""The U-Net of a station on images, and the model around it."""

from mlegfn.data import scale_to_unit
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.networks.unet import build_unet, eps_network, reinitialise
from mlegfn.randomness import generator
from reproduction.gallery.fitting import with_weights

__all__ = ["build", "model_of", "process_of", "shortened", "test_images", "train_images", "trained"]


def process_of(settings):
    """The noising process of a block with timesteps, beta_schedule, beta_start and beta_end."""
    return GaussianDiffusion(
        betas(settings.timesteps, settings.beta_schedule, settings.beta_start, settings.beta_end)
    )


def build(settings, shape, seed, learned_variance=False):
    """DDPM's U-Net of ``settings.network`` (settings.training.Network) for images of ``shape`` [C, H, W], initialised by the seed."""
    channels, size, _ = shape
    network = build_unet(channels, size, learned_variance=learned_variance, **settings.network.model_dump())
    return reinitialise(network, generator(seed, "init"))


def model_of(network, settings, levels, variance="small"):
    """P_F of a U-Net with a fixed variance, over the process of ``settings``."""
    process = process_of(settings)
    table = None if variance == "learned" else fixed_log_variance(process, variance)
    return DenoisingModel(eps_network(network), process, table, levels)


def train_images(images):
    """float32 [N, C, H, W] in [−1, 1] of the training split."""
    return scale_to_unit(images.train_images, images.levels)


def test_images(images):
    """float32 [N, C, H, W] in [−1, 1] of the test split."""
    return scale_to_unit(images.test_images, images.levels)


def trained(inputs):
    """The model that the station ``algorithms`` trained, from its averaged weights; ``inputs``: station.Inputs."""
    settings = inputs.settings("algorithms")
    network = build(settings, inputs.images.shape, settings.seed)
    network = with_weights(network, inputs.tensors("algorithms"), "model")
    return model_of(network, settings, inputs.images.levels)


def shortened(model, steps):
    """``model`` on ``steps`` of its T times (always T itself), with that chain's own variances β̃."""
    process = model.process.respaced(steps)
    return model.with_process(process, fixed_log_variance(process, "small"))
