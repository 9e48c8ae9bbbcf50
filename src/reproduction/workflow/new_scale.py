"""`mlegfn new-scale`: a scale of one's own images, written into params.yaml beside the scale that it is like.

Only text is inserted; comments, anchors and every other byte of the file stay.
"""

import json
import re
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

from ruamel.yaml import YAML, MappingNode, SequenceNode

from mlegfn.artifacts import write_text
from mlegfn.errors import UserError
from reproduction import params as settings
from reproduction.settings.yaml_file import load, read_yaml

__all__ = ["add"]

SETTINGS = Path("params.yaml")
NAME = r"[a-z0-9][a-z0-9_]*"  # as params.ScaleName


def add(name, images, like):
    """Write the scale ``name`` of the folder or archive ``images``, with the settings of the scale ``like``.

    :raises UserError: if the name is taken or bad, or the images do not suit the settings; the file is then as it was
    """
    params, raw = settings.load(SETTINGS), read_yaml(SETTINGS)
    if not re.fullmatch(NAME, name):
        raise UserError(f"{name!r}: no name of a scale; use lower-case letters, digits and underscores")
    if name in params.scales:
        raise UserError(f"params.yaml: there is a scale {name!r} already; choose another name")
    params.block("images", like)
    if params.images[like].data.per_batch is not None:
        raise UserError(
            f"--like {like}: its data.per_batch is of CIFAR-10's files alone; choose a scale where it is null"
        )
    block = {key: value for key, value in raw["images"][like].items() if key != "alignment"}
    block, changes = fitted(block, images, like)
    arms = [entry.arm for entry in params.arm_runs.values() if entry.scale == like]
    runs = {f"{name}-{arm}": {"scale": name, "arm": arm} for arm in arms}
    path = SETTINGS.resolve()  # the file itself, where params.yaml is a link
    text = path.read_bytes().decode()
    new = inserted(text, like, name, block, runs)
    expected = {**raw, "image_scales": [*raw["image_scales"], name]}
    expected |= {"arm_runs": raw["arm_runs"] | runs, "images": raw["images"] | {name: block}}
    own = load(new)
    if own != {key: value for key, value in expected.items() if key in own}:
        raise UserError("params.yaml: laid out so that no block can be inserted; add the scale by hand")
    check(new, path, name, block["data"]["sha256_test"] and changes.pop("test images"))
    write_text(path, new)
    for setting, change in changes.items():
        print(f"images.{name}.{setting}: {change}")
    print(f"params.yaml: has the scale {name}, like {like}\nRun: make reproduce SCALE={name}")


def fitted(block, path, like):
    """(``block`` with the images of ``path``, ``{setting: how it differs from that of like, and why}``).

    Counts of images that there are too few of are lowered to what there is; changes["test images"] is their number.
    """
    from mlegfn.data import archive, pixels_sha256

    images = archive.load(path)
    _, height, width = images.shape
    divisor = 2 ** (len(block["network"]["block_out_channels"]) - 1)
    if height != width:
        raise UserError(f"{path}: images of {width}×{height} pixels; the network needs square ones")
    if height % divisor:
        raise UserError(
            f"{path}: images of {width}×{height} pixels, but the network of {like} needs a size divisible by "
            f"{divisor}; resize them or choose another --like"
        )
    data, changes = dict(block["data"]), {}
    counts = {"train": len(images.train_labels), "test": len(images.test_labels)}
    for split, count in counts.items():
        if (limit := data[f"{split}_limit"]) and limit > count:
            data[f"{split}_limit"] = None
            changes[f"data.{split}_limit"] = f"null instead of {limit}; there are {count} images"
        counts[split] = min(count, data[f"{split}_limit"] or count)
    if counts["train"] < 4 or counts["test"] < 2:
        raise UserError(f"{path}: too few images; at least 4 for training and 2 for the test are needed")
    if data["validation"] > counts["train"] / 2:
        held = max(2, counts["train"] // 10)
        changes["data.validation"] = f"{held} instead of {data['validation']}, of {counts['train']} images"
        data["validation"] = held
    data |= {"source": "archive", "path": str(path)}
    data |= {f"sha256_{split}": pixels_sha256(getattr(images, f"{split}_images")) for split in counts}
    nll, quality = dict(block["nll"]), dict(block["quality"])
    nll["log_p"] = dict(nll["log_p"])
    for setting, part, key in (("nll.log_p", nll["log_p"], "images"), ("quality", quality, "samples")):
        if part[key] > counts["test"]:
            changes[f"{setting}.{key}"] = f"{counts['test']} instead of {part[key]}, as many as test images"
            part[key] = counts["test"]
    return {**block, "data": data, "nll": nll, "quality": quality}, changes | {"test images": counts["test"]}


def check(text, path, name, tests):
    """UserError if the whole text is not valid, or its likelihoods cannot be estimated on so many test images."""
    from reproduction.images import measuring

    draft = path.with_name(f".{path.name}.new")  # beside the folder params/, which belongs to it
    try:
        write_text(draft, text)
        block = settings.load(draft).images[name]
    except UserError as error:
        raise UserError(str(error).replace(str(draft), "params.yaml")) from None
    finally:
        draft.unlink(missing_ok=True)
    stage = SimpleNamespace(settings=block, scale=name)
    measuring.check(stage, tests)
    measuring.check(stage, block.data.validation, "validation")


def inserted(text, like, name, block, runs):
    """``text`` with the block after that of ``like``, and its entries at the ends of image_scales and arm_runs."""
    root, newline = YAML(typ="safe", pure=True).compose(text), "\r\n" if "\r\n" in text else "\n"
    top = {key.value: value for key, value in root.value}
    key, after = next(entry for entry in top["images"].value if entry[0].value == like)
    lines = ["", *layout({name: block}, key.start_mark.column)]
    pieces = [(end_of_line(text, last(key, after)), "".join(newline + line for line in lines))]
    scales, entries = top["image_scales"], top["arm_runs"]
    if scales.flow_style:
        pieces.append((scales.value[-1].end_mark.index, f", {name}"))
    else:
        pieces.append((end_of_line(text, last(scales)), f"{newline}{' ' * scales.start_mark.column}- {name}"))
    indent = entries.value[0][0].start_mark.column
    rows = "".join(newline + line for line in layout(runs, indent))
    pieces.append((end_of_line(text, last(entries)), rows))
    for at, piece in sorted(pieces, reverse=True):
        text = text[:at] + piece + text[at:]
    return text


def last(*nodes):
    """The index in the text of the last character that belongs to one of the nodes; a block's own end mark lies later."""
    ends = [0]
    for node in nodes:
        if isinstance(node, (MappingNode, SequenceNode)) and not node.flow_style:
            children = [
                child for entry in node.value for child in (entry if isinstance(entry, tuple) else [entry])
            ]
            ends.append(last(*children))
        else:
            ends.append(node.end_mark.index - 1)
    return max(ends)


def end_of_line(text, index):
    """The index at which the line of ``index`` ends, before its line break."""
    at = text.find("\n", index)
    return len(text) if at < 0 else at - (text[at - 1] == "\r")


def layout(block, indent):
    """The lines of a mapping: a line for each setting, and for each innermost mapping."""
    for key, value in block.items():
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            yield f"{' ' * indent}{key}:"
            yield from layout(value, indent + 2)
        else:
            yield f"{' ' * indent}{key}: {flow(value)}"


def flow(value):
    """A value on one line of YAML 1.2."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_./~-]+", value) and load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
