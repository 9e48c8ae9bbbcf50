"""Archives made to harm: each is refused in one line, in bounded time and memory; nothing of them is written.

Every case runs in one process with a limit on its memory, so that a bomb that goes off fails the test and not the
machine. test_archive.py has the ordinary mistakes.
"""

import gzip
import io
import tarfile
import zipfile
import zlib

import pytest
from helpers import fuzzed_archives
from helpers.fuzzed_archives import ROWS, chunk, png, sound
from helpers.limited import SECONDS, outcomes, refused
from PIL import Image

from mlegfn.data import archive, containers
from mlegfn.errors import UserError


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
        cases[name] = file
    # Pixels behind the picture are never unpacked, so this one is sound, and costs nothing.
    (tmp_path / "idat.archive").write_bytes(pictured(png(5, 4, 8, 2, ROWS + bytes(2**27))))
    before = sorted(tmp_path.rglob("*"))
    found = outcomes("archive", cases | {"idat": tmp_path / "idat.archive"}, work)
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
