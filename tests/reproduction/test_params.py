"""params.yaml: what it gives, and that every broken setting is one line that names it, never a traceback."""

import copy
import math
import re
import shutil
import string

import pytest
from helpers.broken_settings import IMPOSSIBLE, bombs, broken, changed, flow, places, value_at, without
from helpers.repository import REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlegfn.errors import UserError
from reproduction.params import SEPARATE, Params, file_of, load, read

QUICK = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
TEXT = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
WHOLE = read(REPOSITORY / "params.yaml")
EXPERIMENTS = Params.EXPERIMENTS


def smoke_alone():
    """The settings with one scale in every list and experiment."""
    raw = copy.deepcopy(WHOLE)
    for key, value in raw.items():
        if key in EXPERIMENTS:
            raw[key] = {"smoke": value["smoke"]}
        elif key.endswith("_scales"):
            raw[key] = [scale for scale in value if scale == "smoke"]
        elif key.endswith("_runs"):
            raw[key] = {name: entry for name, entry in value.items() if entry["scale"] == "smoke"}
    return raw


ONE = smoke_alone()
BELOW = [path for path in places(ONE) if path[0] in EXPERIMENTS and len(path) > 2]
BLOCKS = [path for path in BELOW if isinstance(value_at(ONE, path), dict) and value_at(ONE, path)]
LEAVES = [
    path
    for path in BELOW
    if not isinstance(value_at(ONE, path), dict) and not any(isinstance(key, int) for key in path)
]
# A text is a valid path, and a valid name of a file of weights.
TEXTS = {"path", "inception"}


def lines_of(raw, folder):
    """The error lines for settings as a value, a text or bytes; an empty list where they are accepted."""
    file = folder / "params.yaml"
    if not (folder / "params").exists():
        (folder / "params").symlink_to(REPOSITORY / "params")
    text = raw if isinstance(raw, bytes | str) else flow(raw)
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        load(file)
    except UserError as error:
        return [line.removeprefix(f"{folder}/") for line in str(error).split("\n")]
    return []


def with_value(path, value):
    return changed(ONE, path, value)


def keys(lines):
    """The keys that error lines are about."""
    return [re.match(r"params\.yaml: ([^:\[ ]+)", line).group(1) for line in lines]


# ---------------------------------------------------------------- what is there


def test_the_repositorys_own_settings():
    params = load(REPOSITORY / "params.yaml")
    assert params.scales[:2] == ["digits", "smoke"] and set(params.scales) == {
        scale for name in EXPERIMENTS for scale in WHOLE[name]
    }
    assert params.block("planar", "smoke") is params.planar["smoke"]
    assert params.items("images", "digits") == ["simple", "simple_tbc", "reweighted", "vlb", "vlb_tbc"]
    assert params.items("planar", "smoke") == ["moons"]
    assert params.items("families", "smoke") == ["any_order", "ddpm"]
    assert params.items("gallery", "smoke") == ["spiral", "algorithms", "shared"], (
        "the lists after each other"
    )
    assert params.runs("gallery", "smoke")["shared"].reads == "algorithms"
    assert list(params.runs("images", "smoke")) == params.items("images", "smoke")
    assert params.items("bits", "cifar10") == []
    lists = params.lists("consistency", "digits")
    assert lists == {"signed_runs": ["moons"], "policy_runs": ["8gaussians"], "noising_runs": ["moons"]}
    assert params.items("consistency", "digits") == ["moons", "8gaussians", "moons"]
    assert (
        params.lists("consistency", "smoke")["policy_runs"] == []
        and params.consistency["smoke"].policy is None
    )
    twice = params.lists("consistency", "consistency")
    assert params.items("consistency", "consistency") == [
        *twice["signed_runs"],
        *twice["policy_runs"],
        *twice["noising_runs"],
    ]


def test_a_scale_that_is_not_there_is_named():
    params = load(REPOSITORY / "params.yaml")
    with pytest.raises(UserError, match="no scale 'nope'; there are digits, smoke"):
        params.check_scale("nope")
    with pytest.raises(UserError, match="bits: no scale 'cifar10'; there are"):
        params.block("bits", "cifar10")
    params.check_scale("cifar10")


# ---------------------------------------------------------------- the lists that dvc.yaml loops over


@pytest.mark.parametrize(
    "path, value, line",
    [
        (("arm_runs", "smoke-sgd"), {"scale": "smoke", "arm": "sgd"}, "arm_runs.smoke-sgd.arm: expected one of simple, simple_tbc"),
        (("arm_runs", "smoke-tbc"), {"scale": "smoke", "arm": "simple"}, "arm_runs: 'smoke-tbc' must be called smoke-simple"),
        (("arm_runs", "smoke-vlb"), {"scale": "smoke", "arm": "vlb"}, "arm_runs: 'smoke-vlb', but images.smoke has no block 'vlb'"),
        (("image_scales",), ["smoke", "large"], "image_scales: names 'large', but images has no block 'large'"),
        (("image_scales",), ["smoke", "smoke"], "image_scales: names something twice"),
        (("image_scales",), ["cifar10-hour"], "image_scales[0]: expected text matching"),
        (("images", "cifar10-hour"), ONE["images"]["smoke"], "images.cifar10-hour: "),
        (("bits", "big"), ONE["bits"]["smoke"], "bits_scales: lacks 'big', for which bits has a block"),
        (("planar_runs", "smoke-rings"), {"scale": "smoke", "problem": "circles"}, "planar_runs: 'smoke-rings' must be called smoke-circles"),
        (("family_runs", "smoke-hvae"), {"scale": "smoke", "family": "hvae"}, "family_runs: 'smoke-hvae', but families.smoke has no block 'hvae'"),
        (("family_runs", "huge-ddpm"), {"scale": "huge", "family": "ddpm"}, "family_runs: 'huge-ddpm': no scale 'huge' in families"),
        (("planar_runs", "huge-moons"), {"scale": "huge", "problem": "moons"}, "planar_runs: 'huge-moons': no scale 'huge' in planar"),
        (("planar_runs", "smoke-stars"), {"scale": "smoke", "problem": "stars"}, "planar_runs.smoke-stars.problem: expected one of 2spirals"),
        (("planar_runs", "smoke-moons"), {"problem": "moons"}, "planar_runs.smoke-moons.scale: missing"),
        (("planar_runs",), ["smoke-moons"], "planar_runs: expected a block of settings"),
        (("station_runs", "smoke-spiral", "images"), "huge", "station_runs: 'smoke-spiral': no images of 'huge'; image_scales has smoke"),
        (("reading_station_runs", "smoke-shared", "reads"), "cascade", "reading_station_runs: 'smoke-shared' reads 'cascade', which no entry of the scale 'smoke' makes"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_mistakes_in_lists(tmp_path, path, value, line):
    raw = copy.deepcopy(ONE)
    value_at(raw, path[:-1])[path[-1]] = value
    found = lines_of(raw, tmp_path)
    assert found and found[0].startswith(f"params.yaml: {line}"), found


@pytest.mark.parametrize(
    "path, line",
    [
        (("family_runs", "smoke-ddpm"), "family_runs: lacks smoke-ddpm, for which families has a block"),
        (
            ("divergence_runs", "smoke-mixture"),
            "divergence_runs: lacks smoke-mixture, for which divergences has a block",
        ),
        (("station_runs", "smoke-spiral"), "station_runs: lacks smoke-spiral, for which gallery has a block"),
        (
            ("bits_runs", "smoke-8gaussians"),
            "bits_runs: has no entry of the scale 'smoke', for which bits has a block",
        ),
        (("planar", "smoke"), "planar_scales: names 'smoke', but planar has no block 'smoke'"),
        (("gallery_scales",), "gallery_scales: missing"),
    ],
)
def test_what_the_lists_lack(tmp_path, path, line):
    found = lines_of(without(ONE, path), tmp_path)
    assert found and found[0].startswith(f"params.yaml: {line}"), found


@pytest.mark.parametrize(
    "path, line",
    [
        (
            ("policy_runs", "digits-8gaussians"),
            "policy_runs: has no entry of the scale 'digits', for which consistency.*.policy has a block",
        ),
        (
            ("consistency", "digits", "policy"),
            "policy_runs: 'digits-8gaussians': no scale 'digits' in consistency.*.policy",
        ),
    ],
)
def test_policies_that_are_run_have_settings_and_the_other_way_round(tmp_path, path, line):
    found = lines_of(without(WHOLE, path), tmp_path)
    assert found and found[0].startswith(f"params.yaml: {line}"), found


# ---------------------------------------------------------------- broken settings


def break_at(raw, path, how, value):
    """Break one key in place; returns the name that the error must start with."""
    block, key = value_at(raw, path[:-1]), path[-1]
    if how == "delete":
        del block[key]
    elif how == "rename":
        block[f"{key}_x"] = block.pop(key)
        return ".".join((*path[:-1], f"{key}_x"))
    else:
        block[key] = -1 if key in TEXTS and isinstance(value, str) else value
    return ".".join(path)


@st.composite
def breakages(draw):
    paths = draw(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=8, unique=True))
    how = st.sampled_from(["delete", "rename", "value", "value"])
    return [(path, draw(how), draw(IMPOSSIBLE)) for path in paths]


@QUICK
@given(breakages())
def test_one_line_for_each_broken_key(tmp_path, made):
    raw = copy.deepcopy(ONE)
    expected = [break_at(raw, *one) for one in made]
    assert sorted(keys(lines_of(raw, tmp_path))) == sorted(expected)


@QUICK
@given(st.sampled_from(BLOCKS), st.sampled_from([None, 3, "x", [], [1], True, math.nan]))
def test_a_block_that_is_none_is_one_line(tmp_path, path, value):
    (line,) = lines_of(with_value(path, value), tmp_path)
    assert line.startswith(f"params.yaml: {'.'.join(path)}: expected a block of settings")


@QUICK
@given(broken(Params, ONE))
def test_settings_of_every_type_are_accepted_or_named(tmp_path, raw):
    for line in lines_of(raw, tmp_path):
        assert line.startswith("params.yaml: ") and len(line) < 600


@QUICK
@given(
    st.integers(0, len(TEXT) - 1),
    st.integers(0, 40),
    st.text(string.printable, max_size=12) | st.text(max_size=4),
)
def test_no_edit_of_the_text_gives_a_traceback(tmp_path, start, length, new):
    for line in lines_of(TEXT[:start] + new + TEXT[start + length :], tmp_path):
        assert line.startswith("params.yaml: ")


@QUICK
@given(st.binary(max_size=80))
def test_no_bytes_give_a_traceback(tmp_path, content):
    assert lines_of(content, tmp_path)


@pytest.mark.parametrize("name", bombs("images"))
def test_files_that_are_odd_as_a_whole(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = lines_of(bombs("images")[name], tmp_path)
    assert found and all(line.startswith("params.yaml: ") and len(line) < 600 for line in found)
    assert not (tmp_path / "canary").exists()


def test_a_mistake_in_an_inherited_block_is_one_line(tmp_path):
    """cifar10_hour has the network of cifar10 by an anchor."""
    assert TEXT.count("block_out_channels: [128, 256, 256, 256]") == 1
    found = lines_of(TEXT.replace("[128, 256, 256, 256]", "wide"), tmp_path)
    assert keys(found) == ["images.cifar10.network.block_out_channels"]


@pytest.mark.parametrize(
    "change, line",
    [
        (
            lambda text: text.replace("hidden: 64", "hidden: wide", 1),
            "planar.digits.hidden: expected an integer",
        ),
        (lambda text: text.replace("planar:", "planets:", 1), "expected one block, 'planar'"),
        (lambda text: "", "expected one block, 'planar'"),
        (lambda text: None, "not found"),
    ],
)
def test_a_mistake_in_an_experiments_own_file_names_the_file(tmp_path, change, line):
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    file = tmp_path / "params/planar.yaml"
    text = change(file.read_text())
    file.unlink()
    if text is not None:
        file.write_text(text)
    (found,) = lines_of(TEXT, tmp_path)
    assert found.startswith(f"params/planar.yaml: {line}"), found


def test_a_block_may_stand_in_the_first_file_instead():
    assert read(REPOSITORY / "params.yaml")["planar"] == WHOLE["planar"]
    assert file_of("planar.digits") == "params/planar.yaml" and file_of("images.digits") == "params.yaml"
    assert {path.stem for path in (REPOSITORY / "params").iterdir()} == set(SEPARATE) < set(EXPERIMENTS)
