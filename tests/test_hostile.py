"""Archives and checkpoints made to harm: each is refused in one line, in bounded time and memory; nothing of them is
written or run.

Every case of a kind runs in one process with a limit on its memory, so that a bomb that goes off fails the test and
not the machine. tests/test_archive.py and tests/test_external.py have the ordinary mistakes.
"""

import gzip
import io
import json
import math
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import fuzzed_archives
import pytest
import torch
from conftest import REPOSITORY
from external_folders import SCHEDULER, UNET, WEIGHTS, entries, save, written
from fuzzed_archives import ROWS, chunk, png, sound
from PIL import Image
from safetensors.torch import load_file, save_file

from mlegfn.data import archive, containers
from mlegfn.errors import UserError

# Runs `mlegfn` with each list of arguments that it reads, in this process; prints a JSON line for each.
RUNNER = """
import contextlib, io, json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
from mlegfn import cli
from mlegfn.data import archive
from mlegfn.errors import UserError

def load(path):
    try:
        print(tuple(archive.load(path).train_images.shape))
        return 0
    except UserError as error:
        return cli.complain(error)

for arguments in json.load(sys.stdin):
    out, err, code, started = io.StringIO(), io.StringIO(), None, time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = load(arguments[1]) if arguments[0] == "archive" else cli.run_here(arguments)
    except BaseException as error:
        err.write(f"{type(error).__name__}: {error}")
    print(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue().split("\\r")[-1],
                      "seconds": time.process_time() - started}), flush=True)
"""
MEMORY = 6 * 2**30  # bytes of addresses; torch alone has 2 to 4 GiB of them
SECONDS = 20  # of the processor, for one case


def outcomes(cases, cwd):
    """Run ``mlegfn`` with each of ``cases`` {name: arguments} in ``cwd``; {name: what it came to}."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(MEMORY)],
        input=json.dumps([[str(part) for part in arguments] for arguments in cases.values()]),
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(cases), f"{list(cases)[len(lines)]} ended it: {done.stderr[-2000:]}"
    return dict(zip(cases, lines))


def refused(outcome, *said):
    """Whether it is one line that says what it should."""
    line = outcome["err"]
    return (
        outcome["code"] == 2
        and outcome["seconds"] < SECONDS
        and line.startswith("mlegfn: ")
        and line.count("\n") == 1
        and len(line) < 700
        and all(each in line for each in said)
    )


# ---------------------------------------------------------------- archives


def zipped(**more):
    """A sound archive with more members, deflated."""
    return _zip([*sound().items(), *more.items()])


def _zip(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return stream.getvalue()


def pictured(content, name="train/a/z.png"):
    return zipped(**{name: content})


def overlapping():
    """A zip whose thousand members all are the same compressed bytes, as in Fifield's zip bombs."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("README", bytes(15 * 2**20))
        first = file.filelist[0]
        for k in range(1000):
            again = zipfile.ZipInfo(f"README{k}")
            for name in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(again, name, getattr(first, name))
            file.filelist.append(again)
    return stream.getvalue()


def tarred(*members, compress=False):
    """A tar of headers and contents as they are given, sound or not."""
    content = b"".join(members) + bytes(1024)
    return gzip.compress(content, 1) if compress else content


def member(name, content=b"", kind=tarfile.REGTYPE, link="", mode=0o644, size=None, pax=None):
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.mode, header.pax_headers = kind, link, mode, pax or {}
    header.size = len(content) if size is None else size
    layout = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    return header.tobuf(layout) + content + bytes(-len(content) % 512)


def through_a_link():
    """A link to a folder outside, then a file written through it."""
    return tarred(
        member("train/a", kind=tarfile.SYMTYPE, link="../../.."),
        member("train/a/x.png", fuzzed_archives.picture(1)),
    )


def sparse(count):
    """A sparse file whose map has ``count`` entries, each of which tarfile keeps."""
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "train/a/x.png"}
    body = f"{count}\n".encode() + b"0\n" * (2 * count)
    return tarred(member("x", body, pax=pax | {"GNU.sparse.realsize": "100"}), compress=True)


def scans(count):
    """A progressive JPEG whose last scan stands there again and again; each is decoded in full."""
    stream = io.BytesIO()
    Image.new("RGB", (1024, 1024)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + content[-2:]


TEXTS = b"".join(chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(10**6))) for _ in range(100))

ARCHIVES = {
    "a link, then through it": (through_a_link, "'train/a': is a link"),
    "a link to a file": (lambda: tarred(member("train/a/x.png", kind=tarfile.SYMTYPE, link="/etc/passwd")), "is a link"),
    "a hard link out": (lambda: tarred(member("train/a/x.png", kind=tarfile.LNKTYPE, link="../../x")), "is a link"),
    "a block device": (lambda: tarred(member("train/a/x.png", kind=tarfile.BLKTYPE)), "is a special file"),
    "a pipe": (lambda: tarred(member("train/a/x.png", kind=tarfile.FIFOTYPE)), "is a special file"),
    "a path by PAX": (lambda: tarred(member("x", b"", pax={"path": "../../canary"})), "'../../canary': not a path"),
    "a long path by GNU": (lambda: tarred(member("../" * 60 + "canary", b"x")), "not a path inside"),
    "an absolute folder": (lambda: tarred(member("/tmp/canary", kind=tarfile.DIRTYPE)), "not a path inside"),
    "a drive": (lambda: pictured(b"", "C:train/a/x.png"), "not a path inside"),
    "a UNC path": (lambda: tarred(member("\\\\host\\share\\x.png", b"x")), "not a path inside"),
    "a name that turns round": (lambda: pictured(b"", "train/a/\u202egnp.exe"), "not a path inside"),
    "a zip in a zip": (lambda: zipped(**{"train/a/x.zip": zipped()}), "'train/a/x.zip': is no .png"),
    "one file, high ratio": (lambda: pictured(bytes(2**27)), "'train/a/z.png': unpacks to 134217728 bytes"),
    "overlapping members": (overlapping, "cannot be read|up to here"),
    "a huge sparse map": (lambda: sparse(3_000_000), "cannot be read to its end (a header of"),
    "a sparse file": (lambda: tarred(member("train/a/x.png", b"1\n0\n", pax={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**15)})), "x.archive"),
    "a member of 8 EiB": (lambda: tarred(member("train/a/x.png", b"x", size=2**63 - 1)), "unpacks to 9223372036854775807"),
    "a negative member": (lambda: tarred(member("train/a/x.png", b"x", size=-512)), "x.archive"),
    "a billion laughs of headers": (lambda: tarred(member("g", bytes(2000), tarfile.XGLTYPE) * 2000, compress=True), "cannot be read"),
    "a vast picture": (lambda: pictured(png(60_000, 60_000, 8, 2, b"")), "'train/a/z.png': no readable"),
    "a large picture": (lambda: pictured(png(9_000, 9_000, 8, 2, b"")), "'train/a/z.png': is 9000×9000"),
    "a bomb of a profile": (lambda: pictured(png(5, 4, 8, 2, ROWS, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**27))))), "Decompressed data too large"),
    "a bomb of texts": (lambda: pictured(png(5, 4, 8, 2, ROWS, TEXTS)), "Too much memory used in text"),
    "a thousand scans": (lambda: pictured(scans(1000), "train/a/z.jpg"), "'train/a/z.jpg': has more than 100 scans"),
    "more bits than are read": (lambda: pictured(png(5, 4, 16, 2, b"".join(b"\0" + bytes(30) for _ in range(4)))), "has 16 bits"),
    "several pictures in one": (lambda: pictured(fuzzed_archives.ODD_IMAGES["animated"]), "holds 2 images"),
}  # fmt: skip


def test_hostile_archives(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    cases = {}
    for number, (name, (make, _)) in enumerate(ARCHIVES.items()):
        file = tmp_path / f"{number}x.archive"
        file.write_bytes(make())
        assert file.stat().st_size < 4 * 2**20, f"{name} is no small file"
        cases[name] = ["archive", file]
    # Pixels behind the picture are never unpacked, so this one is sound, and costs nothing.
    (tmp_path / "idat.archive").write_bytes(pictured(png(5, 4, 8, 2, ROWS + bytes(2**27))))
    before = sorted(tmp_path.rglob("*"))
    found = outcomes(cases | {"idat": ["archive", tmp_path / "idat.archive"]}, work)
    sound_one = found.pop("idat")
    assert sound_one["code"] == 0 and sound_one["out"] == "(5, 3, 4, 5)\n" and sound_one["seconds"] < SECONDS
    wrong = {
        name: outcome
        for name, outcome in found.items()
        if not any(refused(outcome, "x.archive: ", said) for said in ARCHIVES[name][1].split("|"))
    }
    assert not wrong, "\n".join(f"{n}: {o}" for n, o in wrong.items())
    assert (
        sorted(tmp_path.rglob("*")) == before
    )  # nothing was written, beside the archives or where they lead


def test_folders_are_counted_too(tmp_path, monkeypatch):
    """A tar of nothing but folders packs to a thousandth, and each costs as much time as a file."""
    (tmp_path / "x.tar.gz").write_bytes(tarred(member("train/", kind=tarfile.DIRTYPE) * 1001, compress=True))
    monkeypatch.setattr(containers, "FILES", 1000)
    with pytest.raises(UserError, match=r"x.tar.gz: 'train': more than 1000 files and folders"):
        archive.load(tmp_path / "x.tar.gz")


# ---------------------------------------------------------------- checkpoints


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
    "no numbers": (tensors(lambda w: torch.full_like(w, math.nan)), "not finite"),
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
        cases[name] = ["nll", folder, "--images", "digits", "--limit", 1, "--estimator", "full"]
    before = sorted(root.rglob("*"))
    return root, before, outcomes(cases, root)


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
