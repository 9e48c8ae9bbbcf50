"""`mlegfn sample PATH --out FILE.png`: samples of any Diffusers DDPM folder or hub id, by ancestral sampling."""

import io
import math

import numpy as np
import torch
from tqdm import tqdm

from mlegfn.artifacts import write_bytes
from mlegfn.checkpoints import read
from mlegfn.data import to_levels
from mlegfn.diffusion.sampling import generate
from mlegfn.errors import UserError
from mlegfn.randomness import generator
from reproduction.commands.inputs import check_file, device_named, variance_source

GAP = 2  # white pixels between samples


def run(options):
    device = device_named(options.device)
    out = check_file(options.out, "--out")
    arrays = check_file(options.npz, "--npz") if options.npz else None
    external = read(
        options.path, options.variance, levels=options.levels, device=device, precision=options.precision
    )
    if external.variance == "analytic" and external.errors is None:
        raise UserError(
            f"{options.path}: its analytic variances were never estimated; `mlegfn finetune --variance analytic` "
            "writes a folder that holds them; or take --variance large or small"
        )
    if external.size is None:
        raise UserError(
            f"{external.layout.unet / 'config.json'}: sample_size is not set; put the images' size there"
        )
    if external.channels not in (1, 3):
        raise UserError(
            f"{options.path}: samples of {external.channels} channels are no picture; there are 1 and 3"
        )
    levels = external.levels or 256
    clip = external.scheduler.clip if options.clip else None
    model = external.model(levels, clip=clip)
    shape = (options.count, external.channels, *external.size)
    with tqdm(
        total=model.timesteps * math.ceil(options.count / options.batch),
        desc="network evaluations",
        unit="batch",
        mininterval=1.0,
    ) as bar:
        network = model.network

        def counted(x, time):
            bar.update()
            return network(x, time)

        model.network = counted
        states, _ = generate(model, shape, 2, generator(options.seed, "sample"), device, options.batch)
    if not states[-1].isfinite().all():
        raise UserError(
            f"{options.path}: its samples are not finite; its weights are damaged, or the variance is wrong"
        )
    grey = to_levels(states[-1], levels).float() * (255 / (levels - 1))
    pixels = grey.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    write_bytes(out, png(grid(pixels)))
    if arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, arr_0=pixels)
        write_bytes(arrays, buffer.getvalue())
    source = variance_source(options, external)
    print(
        f"{out}: {options.count} samples of {options.path} (seed {options.seed}, all {model.timesteps} steps, variance "
        f"{external.variance} by {source}, x̂_0 {'not clipped' if clip is None else f'clipped to ±{clip:g}'})"
    )


def grid(pixels):
    """uint8 [N, H, W, C] side by side on white, as square as whole rows allow: uint8 [rows, columns, C]."""
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    page = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), 255, np.uint8)
    for k, picture in enumerate(pixels):
        top, left = k // columns * (height + GAP), k % columns * (width + GAP)
        page[top : top + height, left : left + width] = picture
    return page


def png(page):
    """The bytes of a PNG of uint8 [H, W, C], C = 1 or 3, with no date and no program's name in it."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(page.squeeze(2) if page.shape[2] == 1 else page).save(buffer, "PNG")
    return buffer.getvalue()
