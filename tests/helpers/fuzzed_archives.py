"""Archives of images that are damaged or odd, and whether what was read of one is right."""

import io
import struct
import tarfile
import warnings
import zipfile
import zlib

import numpy as np
from PIL import Image

KINDS = ("zip", "deflated.zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "pax.tar", "gnu.tar")


def picture(seed, size=(5, 4), mode="RGB", kind="PNG", **options):
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(levels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, rows, extra=b""):
    """A PNG of a header, chunks ``extra``, and one IDAT, whatever they say."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


ROWS = b"".join(b"\0" + bytes(range(15)) for _ in range(4))  # of a 5×4 RGB image


def sound(count=2):
    """Two classes to train on and to test with."""
    return {
        f"{split}/{label}/{k}.png": picture(hash_of(split, label, k))
        for split in ("train", "test")
        for label in "ab"
        for k in range(count)
    }


def hash_of(*parts):
    return zlib.crc32("/".join(map(str, parts)).encode())


ODD_IMAGES = {
    "grey": picture(1, mode="L"),
    "palette": picture(1, mode="P"),
    "bits": picture(1, mode="1"),
    "alpha": picture(1, mode="RGBA"),
    "grey and alpha": picture(1, mode="LA"),
    "16-bit grey": picture(1, mode="I;16"),
    "16-bit RGB": png(5, 4, 16, 2, b"".join(b"\0" + bytes(30) for _ in range(4))),
    "CMYK": picture(1, mode="CMYK", kind="JPEG"),
    "animated": picture(1, save_all=True, append_images=[Image.new("RGB", (5, 4))]),
    "GIF": picture(1, kind="GIF"),
    "BMP": picture(1, kind="BMP"),
    "larger": picture(1, (6, 4)),
    "vast": png(60_000, 60_000, 8, 2, b""),
    "wide": png(2**31 - 1, 1, 8, 2, b""),
    "no pixels": png(5, 4, 8, 2, b""),
    "no width": png(0, 4, 8, 2, b""),
    "odd depth": png(5, 4, 3, 2, ROWS),
    "bomb in IDAT": png(5, 4, 8, 2, bytes(10**7)),
    "bomb in iCCP": png(5, 4, 8, 2, ROWS, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**7)))),
    "bomb in zTXt": png(5, 4, 8, 2, ROWS, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(10**7)))),
    "empty": b"",
    "text": b"hello",
    "pickle": b"\x80\x04cos\nsystem\n(S'touch canary'\ntR.",
}
ODD_NAMES = (
    *("../x.png", "/x.png", "train/../../x.png", "C:\\x.png", "train\\a\\0.png", "train/a/\n.png", "train/a/.png"),
    *("train/a/x.webp", "train/x.png", "train/a/b/x.png", "x/train/a/x.png", "validation/a/x.png", "TRAIN/a/x.png"),
    *("train/A/0.png", "train/a/0.PNG", "train/a/é.png", "train/a/" + "x" * 300 + ".png", "train/a//x.png", "./a.png"),
    *("train/./a/0.png", "train/a/0.png/", "", ".", "train", "README", "train/a/Thumbs.db", "__MACOSX/x", "train/a/x"),
)  # fmt: skip


def packed(kind, entries):
    """The bytes of an archive with ``entries`` [(name, content, type of a tar's member)]."""
    stream = io.BytesIO()
    if kind.endswith("zip"):
        how = zipfile.ZIP_DEFLATED if kind == "deflated.zip" else zipfile.ZIP_STORED
        with zipfile.ZipFile(stream, "w", how) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a name stands twice is meant
            for name, content, _ in entries:
                entry = zipfile.ZipInfo(name)
                entry.compress_type = how
                file.writestr(entry, content)
        return stream.getvalue()
    layout = {"pax.tar": tarfile.PAX_FORMAT, "gnu.tar": tarfile.GNU_FORMAT}.get(kind, tarfile.USTAR_FORMAT)
    mode = kind[4:] if kind.startswith("tar.") else ""
    with tarfile.open(fileobj=stream, mode=f"w:{mode}", format=layout, errors="surrogateescape") as file:
        for name, content, sort in entries:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), sort, "../outside"
            if layout == tarfile.PAX_FORMAT:
                member.pax_headers = {"comment": "é" * 100}
            file.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def case(rng):
    """(file name, bytes, whether they may be read only as the images of :func:`sound`)."""
    kind = rng.choice(KINDS)
    entries = [(name, content, tarfile.REGTYPE) for name, content in sound().items()]
    rng.shuffle(entries)
    how = rng.choice(
        ("byte", "byte", "byte", "bytes", "cut", "inside", "image", "name", "type", "twice", "suffix")
    )
    if how == "image":
        at = rng.randrange(len(entries))
        entries[at] = (entries[at][0], ODD_IMAGES[rng.choice(list(ODD_IMAGES))], tarfile.REGTYPE)
    elif how == "name":
        name = rng.choice(ODD_NAMES)
        entries.append(
            (name if kind.endswith("zip") or len(name) < 99 else name[:99], picture(7), tarfile.REGTYPE)
        )
    elif how == "type":
        kind = rng.choice(KINDS[2:])
        sort = bytes([rng.choice(b"123456SLKxgDVN\0\x7f")])
        entries.insert(rng.randrange(len(entries)), ("train/a/x.png", picture(7), sort))
    elif how == "twice":
        entries.append(rng.choice(entries))
    elif how == "inside":
        at = rng.randrange(len(entries))
        name, content, sort = entries[at]
        where = rng.randrange(len(content))
        entries[at] = (name, content[:where] + bytes([rng.randrange(256)]) + content[where + 1 :], sort)
    content = bytearray(packed(kind, entries))
    for _ in range({"byte": 1, "bytes": rng.randrange(2, 40)}.get(how, 0)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    if how == "cut":
        del content[rng.randrange(len(content)) :]
    suffix = rng.choice(("zip", "tar", "png", "x")) if how == "suffix" else kind
    return f"images.{suffix}", bytes(content), how in ("byte", "cut", "suffix", "inside")


def is_right(images):
    """Whether ``images`` are those of :func:`sound`, in their order."""
    for split in ("train", "test"):
        expected = [(label, k) for k in range(2) for label in "ab"]
        pixels, labels = getattr(images, f"{split}_images"), getattr(images, f"{split}_labels")
        if labels.tolist() != ["ab".index(label) for label, _ in expected]:
            return False
        for row, (label, k) in enumerate(expected):
            original = np.asarray(Image.open(io.BytesIO(sound()[f"{split}/{label}/{k}.png"])))
            if not np.array_equal(pixels[row].numpy().transpose(1, 2, 0), original):
                return False
    return True
