"""Checkpoints made to harm: each is refused in one line, in bounded time and memory; nothing of them is run.

Every case runs in one process with a limit on its memory. test_refused.py has the ordinary mistakes.
"""

import json
import math
import os
import pickle
import shutil
import struct

import pytest
import torch
from helpers.diffusers_folders import SCHEDULER, UNET, WEIGHTS, entries, save, written
from helpers.limited import outcomes, refused
from safetensors.torch import load_file, save_file


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def header(change):
    """Change the JSON header of the weights and leave the bytes behind it."""

    def edit(folder):
        file = folder / WEIGHTS
        content = file.read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        value = json.loads(content[8:end])
        names = [name for name in value if name != "__metadata__"]
        change(value, names)
        text = json.dumps(value).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + content[end:])

    return edit


def tensors(change):
    def edit(folder):
        weights = load_file(folder / WEIGHTS)
        save_file({name: change(weight) for name, weight in weights.items()}, folder / WEIGHTS)

    return edit


def overlap(value, names):
    value[names[1]]["data_offsets"] = value[names[0]]["data_offsets"]


def pickled(name):
    def edit(folder):
        (folder / WEIGHTS).unlink()
        (folder / name).write_bytes(pickle.dumps(Evil(folder.parent / "canary")))

    return edit


def zipped_pickle(name):
    def edit(folder):
        (folder / WEIGHTS).unlink()
        torch.save({"x": Evil(folder.parent / "canary")}, folder / name)

    return edit


def module(folder):
    """Code beside the configuration, and a configuration that asks for it."""
    (folder / "unet" / "evil.py").write_text(
        f"open({str(folder.parent / 'canary')!r}, 'w')\nclass Evil: pass\n"
    )
    entries(UNET, _class_name="Evil", auto_map={"AutoModel": "evil.Evil"}, trust_remote_code=True)(folder)


def index(folder):
    (folder / WEIGHTS).unlink()
    names = json.dumps({"weight_map": {"conv_in.bias": "../../../etc/x.safetensors"}})
    (folder / f"{WEIGHTS}.index.json").write_text(names)


def replaced(name, content):
    def edit(folder):
        (folder / name).write_bytes(content)

    return edit


def piped(name):
    def edit(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return edit


def ours(**changes):
    content = {
        "dataset": {"levels": changes.pop("levels", 17)},
        "diffusion": {"variance": "analytic", "decoder": "exact"} | changes.pop("diffusion", {}),
        "epsilon_errors": changes.pop("errors", [1.0] * 6),
    }
    return written("mlegfn.json", json.dumps(content))


MANY = {"block_out_channels": [8] * 5000, "down_block_types": ["DownBlock2D"] * 5000,
        "up_block_types": ["UpBlock2D"] * 5000}  # fmt: skip

CHECKPOINTS = {
    "pickle as .bin": (pickled("unet/diffusion_pytorch_model.bin"), "only as .bin, a pickle"),
    "torch.save as .bin": (zipped_pickle("unet/diffusion_pytorch_model.bin"), "only as .bin, a pickle"),
    "pickle as .pt": (pickled("unet/model.pt"), "safetensors: not found"),
    "pickle as .ckpt": (pickled("unet/diffusion_pytorch_model.ckpt"), "safetensors: not found"),
    "pickle named .safetensors": (pickled(WEIGHTS), "safetensors: damaged"),
    "torch.save named .safetensors": (zipped_pickle(WEIGHTS), "safetensors: damaged"),
    "a header of 8 EiB": (replaced(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"), "safetensors: damaged"),
    "overlapping tensors": (header(overlap), "safetensors: damaged"),
    "a tensor of 10^18": (header(lambda v, n: v[n[0]].update(shape=[10**9, 10**9])), "safetensors: damaged"),
    "a negative offset": (header(lambda v, n: v[n[0]].update(data_offsets=[-4, 4])), "safetensors: damaged"),
    "an unknown dtype": (header(lambda v, n: v[n[0]].update(dtype="F99")), "safetensors: damaged"),
    "integers as weights": (tensors(lambda w: w.to(torch.int64)), "is of I64, not of F64"),
    "complex weights": (tensors(lambda w: w.to(torch.complex64)), "is of C64, not of F64"),
    "other shapes": (tensors(lambda w: w[..., None].contiguous()), "cannot build its U-Net"),
    "shards elsewhere": (index, "names no files of weights"),
    "code beside it": (module, "is of a Evil, not of a UNet2DModel"),
    "another library's weights": (entries(UNET, quantization_config={"quant_method": "bitsandbytes"}), "quantization_config"),
    "a scheduler that is none": (entries(SCHEDULER, _class_name="StableDiffusionPipeline"), "no β schedule"),
    "a module as scheduler": (entries(SCHEDULER, _class_name="utils"), "no β schedule"),
    "10^9 channels": (entries(UNET, block_out_channels=[10**9, 10**9]), "unet/config.json: asks for far more"),
    "10^5 channels": (entries(UNET, block_out_channels=[10**5, 10**5]), "unet/config.json: asks for"),
    "10^9 layers": (entries(UNET, layers_per_block=10**9), "unet/config.json: asks for far more"),
    "5000 blocks": (entries(UNET, **MANY), "unet/config.json: asks for far more"),
    "10^9 images in one": (entries(UNET, in_channels=10**9), "unet/config.json: asks for"),
    "10^9 pixels a side": (entries(UNET, sample_size=10**9), "sample_size 1000000000 is not"),
    "a size of three": (entries(UNET, sample_size=[8, 8, 8]), "sample_size [8, 8, 8] is not"),
    "a size of text": (entries(UNET, sample_size="x" * 10**6), "sample_size xxx"),
    "deep JSON": (written(UNET, "[" * 200_000), "unet/config.json: no readable JSON"),
    "a long number": (written(UNET, f'{{"sample_size": {"9" * 5000}}}'), "unet/config.json: no readable JSON"),
    "a pipe as configuration": (piped(UNET), "unet/config.json is missing"),
    "a clip of text": (entries(SCHEDULER, clip_sample_range="x"), "clip_sample_range x is no range"),
    "a clip beyond floats": (entries(SCHEDULER, clip_sample_range=10**400), "clip_sample_range 1000"),
    "a variance of lists": (entries(SCHEDULER, variance_type=["x"]), "variance_type ['x'] is not read"),
    "betas beyond floats": (entries(SCHEDULER, trained_betas=[10**400] * 6), "scheduler_config.json: "),
    "a beta beyond floats": (entries(SCHEDULER, beta_end=10**400), "scheduler_config.json: "),
    "levels of text": (ours(levels="17"), "mlegfn.json: altered"),
    "10^9 levels": (ours(levels=10**9), "mlegfn.json: altered"),
    "a decoder that is none": (ours(diffusion={"decoder": "x"}), "mlegfn.json: altered"),
    "a variance that is none": (ours(diffusion={"variance": [1]}), "mlegfn.json: altered"),
    "errors of text": (ours(errors="abcdef"), "mlegfn.json: altered"),
    "errors that are none": (ours(errors=[math.nan] * 6), "hostile"),
}  # fmt: skip


def not_asked_for(folder):
    """model_index.json with a foreign library, code beside the weights, links to them as in the hub's cache."""
    shutil.move(folder / WEIGHTS, folder.parent / "blob")
    (folder / WEIGHTS).symlink_to(folder.parent / "blob")
    written("model_index.json", '{"_class_name": "Evil", "unet": ["evil", "Evil"]}')(folder)
    (folder / "unet" / "evil.py").write_text(f"open({str(folder.parent / 'canary')!r}, 'w')")
    entries(UNET, auto_map={"AutoModel": "evil.Evil"}, trust_remote_code=True)(folder)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The folder in which each of CHECKPOINTS, and one that is sound but for what is not asked for, was opened; what
    lay there before; what each came to."""
    root = tmp_path_factory.mktemp("checkpoints")
    stock, cases = save(tmp_path_factory.mktemp("stock") / "ddpm"), {}
    changes = {name: change for name, (change, _) in CHECKPOINTS.items()} | {"not asked for": not_asked_for}
    for number, (name, change) in enumerate(changes.items()):
        folder = shutil.copytree(stock, root / f"{number}-hostile")
        change(folder)
        cases[name] = folder
    before = sorted(root.rglob("*"))
    return root, before, outcomes("checkpoint", cases, root)


def test_hostile_checkpoints(opened):
    root, before, found = opened
    wrong = {n: found[n] for n, (_, said) in CHECKPOINTS.items() if not refused(found[n], "-hostile", said)}
    assert not wrong, "\n".join(f"{n}: {o}" for n, o in wrong.items())
    assert sorted(root.rglob("*")) == before and not (root / "canary").exists()


def test_what_is_not_asked_for_is_not_read(opened):
    root, _, found = opened
    assert found["not asked for"]["code"] == 0 and not (root / "canary").exists()


def test_the_canary_sings(tmp_path):
    """Or the test above could not tell: the pickles of that test do harm to who opens them."""
    (tmp_path / "x" / "unet").mkdir(parents=True)
    (tmp_path / "x" / WEIGHTS).touch()
    pickled("x.pt")(tmp_path / "x")
    pickle.loads((tmp_path / "x" / "x.pt").read_bytes())
    assert (tmp_path / "canary").exists()
