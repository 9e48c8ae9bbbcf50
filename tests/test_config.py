"""params.yaml: broken settings give one line for each broken key, naming it, and never a traceback."""

import copy
import math
import re
import string
import warnings
from pathlib import Path

import pytest
from fuzzing import flow
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mlegfn import families
from mlegfn.config import EXPERIMENTS, IMAGES, Params, fingerprint, load
from mlegfn.errors import UserError
from mlegfn.yaml_file import read_yaml

QUICK = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
TEXT = Path("params.yaml").read_text(encoding="utf-8")
RAW = read_yaml("params.yaml")


def lines_of(text, folder):
    """The error lines for a params.yaml of this text (str or bytes); an empty list where it is accepted."""
    file = folder / "params.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        load(file)
    except UserError as error:
        return [line.removeprefix(f"{folder}/") for line in str(error).split("\n")]
    return []


def leaves(raw, path=()):
    """Every path to a setting that is no block: scalars, lists and entries of lists."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


def blocks(raw, path=()):
    """Every path to a block that itself is a value of a block, below a scale."""
    for key, value in raw.items():
        if isinstance(value, dict):
            if len(path) >= 2:
                yield (*path, key)
            yield from blocks(value, (*path, key))


def parent(raw, path):
    for key in path[:-1]:
        raw = raw[key]
    return raw


SCALE = next(iter(RAW["scales"]))
ONE = {"scales": {SCALE: RAW["scales"][SCALE]}}
LEAVES, BLOCKS = list(leaves(ONE)), list(blocks(ONE))

# No setting may have one of these values, whatever its type is.
IMPOSSIBLE = st.one_of(
    st.sampled_from(
        [math.nan, math.inf, -math.inf, -1, -0.5, 1e300, 10**30, {}, {"a": 1}, [[]], [{}], [None]]
    ),
    st.sampled_from(["fast", "on", "no", "1:30", "1_0_x", ".", "=", "0x", "2001-01-01T25"]),
)


def break_at(raw, path, how, value):
    """Break one key in place; returns the name that the error must start with."""
    block, key = parent(raw, path), path[-1]
    if how == "delete":
        del block[key]
    elif how == "rename":
        block[f"{key}_x"] = block.pop(key)
        return ".".join((*path[:-1], f"{key}_x"))
    else:
        # A text is a valid path, so a broken `path` or `inception` is one that is no text.
        block[key] = -1 if key in ("path", "inception") and isinstance(value, str) else value
    return ".".join(path)


@st.composite
def breakages(draw):
    paths = draw(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=8, unique=True))
    return [
        (p, draw(st.sampled_from(["delete", "rename", "value", "value"])), draw(IMPOSSIBLE)) for p in paths
    ]


def test_the_repository_s_own_settings_are_valid():
    params = load("params.yaml")
    assert set(params.scales) == set(RAW["scales"])
    for name in params.scales:
        assert params.scale(name) is params.scales[name]


@QUICK
@given(breakages())
def test_one_error_for_each_broken_key(tmp_path, broken):
    raw = copy.deepcopy(ONE)
    expected = [break_at(raw, *each) for each in broken]
    found = [re.match(r"params\.yaml: ([^:\[ ]+)", line).group(1) for line in lines_of(flow(raw), tmp_path)]
    assert sorted(found) == sorted(expected)


@QUICK
@given(st.sampled_from(BLOCKS), st.sampled_from([None, 3, "x", [], [1], True, math.nan]))
def test_a_block_that_is_none_is_one_error(tmp_path, path, value):
    optional = path[-1] in (*IMAGES, *EXPERIMENTS) or path[-2] == "tasks"  # what a scale may lack
    assume(not (value is None and optional))
    raw = copy.deepcopy(ONE)
    parent(raw, path)[path[-1]] = value
    (line,) = lines_of(flow(raw), tmp_path)
    assert line.startswith(f"params.yaml: {'.'.join(path)}: expected a block of settings")


@pytest.mark.parametrize("absent", [None, "delete"])
def test_a_scale_has_all_blocks_of_the_images_or_none(tmp_path, absent):
    def without(*names):
        raw = copy.deepcopy(ONE)
        for name in names:
            if absent == "delete":
                raw["scales"]["digits"].pop(name, None)  # digits has no gallery
            else:
                raw["scales"]["digits"][name] = None
        return raw

    for raw in (without(*IMAGES), without(*EXPERIMENTS)):
        (tmp_path / "params.yaml").write_text(flow(raw))
        scale = load(tmp_path / "params.yaml").scale("digits")
        assert scale.has_images is (scale.engine is not None)
    (line,) = lines_of(flow(without("quality")), tmp_path)
    assert line.startswith("params.yaml: scales.digits: has engine,") and "no quality" in line
    (line,) = lines_of(flow(without(*IMAGES, *EXPERIMENTS)), tmp_path)
    assert "nothing to run" in line


def test_families_are_files(tmp_path):
    raw = copy.deepcopy(ONE)
    block = raw["scales"]["digits"]["families"]
    block["include"] = ["autoregressive", "gan"]
    block["settings"]["vampire"] = block["default"]
    found = lines_of(flow(raw), tmp_path)
    assert [line.split(": ")[1] for line in found] == [
        "scales.digits.families.include",
        "scales.digits.families.settings",
    ]
    assert all(f"there are {families.names()[0]}, " in line for line in found)


@QUICK
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        ),
        max_leaves=10,
    ),
    st.sampled_from(LEAVES),
)
def test_any_value_anywhere_is_accepted_or_named(tmp_path, value, path):
    raw = copy.deepcopy(ONE)
    parent(raw, path)[path[-1]] = value
    for line in lines_of(flow(raw), tmp_path):
        # A rule between settings is reported at one of them, all in the same scale.
        assert line.startswith(f"params.yaml: scales.{SCALE}.") and len(line) < 400


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


@pytest.mark.parametrize(
    "path, value, line",
    [
        ("pretrain.optimizer.lr", "fast", "expected a number > 0, got 'fast'"),
        ("pretrain.optimizer.lr", 0, "expected a number > 0, got 0"),
        ("pretrain.optimizer.ema_decay", 1.0, "expected a number ≥ 0 and < 1, got 1.0"),
        ("pretrain.batch", 2.5, "expected an integer ≥ 1, got 2.5"),
        ("pretrain.batch", True, "expected an integer ≥ 1, got true"),
        ("pretrain.batch", 10**400, "expected an integer ≥ 1 and ≤ 1e9, got 1000000"),
        ("data.flip", "no", "expected true or false, got 'no'"),
        ("data.train_limit", 0, "expected an integer ≥ 1 or null, got 0"),
        ("data.path", "x.zip", "is for the source `archive`; put null"),
        ("data.per_batch", 5, "is for the source `cifar10`; put null"),
        ("data.sha256_test", "f" * 63, "expected text matching ^[0-9a-f]{64}$ or null, got 'fff"),
        ("finetune.arms", [], "expected a list (at least one), each one of simple, vlb, tbc, got []"),
        ("finetune.arms", "tbc", "expected a list (at least one), each one of simple, vlb, tbc, got 'tbc'"),
        ("finetune.seeds", [0, 0], "names something twice"),
        ("diffusion.variance", "tiny", "expected one of large, small, analytic, learned, got 'tiny'"),
        ("diffusion.timesteps", None, "expected an integer ≥ 2, got null"),
        ("diffusion.beta_end", 1e-9, "must not be below beta_start"),
        ("network.attention", [True] * 9, "must have as many entries as block_out_channels"),
        ("network.norm_num_groups", 7, "must divide every entry of block_out_channels"),
        ("pretrain.checkpoints", [3, 2], "must rise from entry to entry"),
        ("pretrain.stop", 1, "must be after the last checkpoint"),
        ("finetune.evaluate_at", [10, 10], "must rise from entry to entry"),
        ("finetune.steps", 1, "must reach the last entry of evaluate_at"),
        ("trajectories.checkpoint", 7, "must be one of pretrain.checkpoints"),
        ("trajectories.finetune_seed", 77, "must be one of finetune.seeds"),
        ("trajectories.columns", 10**6, "must be at most diffusion.timesteps + 1"),
    ],
)
def test_what_each_mistake_says(tmp_path, path, value, line):
    raw = copy.deepcopy(ONE)
    *folders, key = path.split(".")
    parent(raw, ("scales", SCALE, *folders, key))[key] = value
    found = lines_of(flow(raw), tmp_path)
    assert any(each.startswith(f"params.yaml: scales.{SCALE}.{path}: {line}") for each in found), found


def test_batches_of_cifar10_have_10000_images(tmp_path):
    raw = copy.deepcopy(ONE)
    raw["scales"][SCALE]["data"] |= {"source": "cifar10", "per_batch": 10_000}
    assert lines_of(flow(raw), tmp_path) == []
    raw["scales"][SCALE]["data"]["per_batch"] += 1
    assert lines_of(flow(raw), tmp_path) == [
        f"params.yaml: scales.{SCALE}.data.per_batch: must be at most 10000, the images of one batch"
    ]


def test_entries_of_lists_are_named(tmp_path):
    raw = copy.deepcopy(ONE)
    raw["scales"][SCALE]["pretrain"]["checkpoints"][1:3] = ["two", -3]
    prefix = f"params.yaml: scales.{SCALE}.pretrain.checkpoints"
    assert lines_of(flow(raw), tmp_path) == [
        f"{prefix}[1]: expected an integer ≥ 1, got 'two'",
        f"{prefix}[2]: expected an integer ≥ 1, got -3",
    ]


def test_a_rule_between_settings_is_checked_beside_other_errors(tmp_path):
    """pydantic's own validators would stay silent until the first mistake is mended."""
    raw = copy.deepcopy(ONE)
    raw["scales"][SCALE]["pretrain"] |= {"stop": 1, "batch": "many"}
    found = lines_of(flow(raw), tmp_path)
    assert [line.split(": ")[1].split(".")[-1] for line in found] == ["batch", "stop"]


def test_misspelt_and_unknown_settings(tmp_path):
    raw = copy.deepcopy(ONE)
    scale = raw["scales"][SCALE]
    scale["nll"]["bach"] = scale["nll"].pop("batch")
    scale["pretrain"]["seeds"] = 3
    scale["data"]["zebra"] = 3
    assert lines_of(flow(raw), tmp_path) == [
        f"params.yaml: scales.{SCALE}.nll.bach: unknown setting; did you mean 'batch', which is missing?",
        *sorted(
            [
                f"params.yaml: scales.{SCALE}.data.zebra: unknown setting; there are source, path, train_limit, test_limit, flip, per_batch, sha256_train, sha256_test",
                f"params.yaml: scales.{SCALE}.pretrain.seeds: unknown setting; did you mean 'seed'?",
            ]
        ),
    ]


@pytest.mark.parametrize("raw", [{"scales": {}}, {"scales": None}, {"scales": []}, {"scales": {"a": None}}])
def test_empty_scales(tmp_path, raw):
    (line,) = lines_of(flow(raw), tmp_path)
    assert "expected a block of settings, got" in line


@pytest.mark.parametrize("name", ["Digits", "a b", "../x", "", 400, "-a"])
def test_names_of_scales(tmp_path, name):
    (line,) = lines_of(flow({"scales": {name: ONE["scales"][SCALE]}}), tmp_path)
    assert (name == "400") == (line == "") or "not a name" in line


def test_a_mistake_in_an_inherited_block_is_one_error(tmp_path):
    text = TEXT.replace("warmup: 100", "warmup: soon", 1)
    anchor = re.search(r"^  (\S+): &(\S+)", TEXT, re.M)
    assert anchor, "params.yaml inherits by anchors"
    text += f"\n  heir-1:\n    <<: *{anchor[2]}\n  heir-2:\n    <<: *{anchor[2]}\n"
    (line,) = lines_of(text, tmp_path)
    assert line.startswith(
        f"params.yaml: scales.{anchor[1]}.pretrain.optimizer.warmup: expected an integer ≥ 0"
    )


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "expected a block of settings, got null"),
        ("- a", "expected a block of settings, got ['a']"),
        ("3", "expected a block of settings, got 3"),
        ("scales: [", "line 1: not valid YAML"),
        ("a: 1\nscales:\n\tdigits: 3", "line 3: not valid YAML"),
        ("scales: {}\nscales: {}", "line 2: 'scales' stands twice in one block"),
        ("scales: {}\n---\nscales: {}", "line 2: not valid YAML"),
        ("x: !!python/object/apply:os.system [ls]", "line 1: not valid YAML"),
        ("x: " + "9" * 5000, "not valid YAML (Exceeds the limit"),
        ("[\n" * 2000, "nested too deeply"),
        (b"\xff\xfe\x00\x01", "not a text file"),
        (b"scales: \x00", "not valid YAML"),
    ],
)
def test_files_that_are_no_settings(tmp_path, text, said):
    found = lines_of(text, tmp_path)
    assert len(found) == 1 and said in found[0] and len(found[0]) < 400


def test_blocks_that_contain_themselves(tmp_path):
    assert any("scales.b.b: unknown setting" in line for line in lines_of("scales: &a {b: *a}", tmp_path))


def test_files_that_cannot_be_read(tmp_path):
    for path, said in ((tmp_path / "none.yaml", "not found"), (tmp_path, "cannot be read")):
        with pytest.raises(UserError, match=said):
            load(path)


def test_yaml_is_read_as_dvc_reads_it(tmp_path):
    """The two versions of YAML differ in these; DVC reads version 1.2."""
    from dvc.utils.serialize import load_yaml

    file = tmp_path / "a.yaml"
    file.write_text("a: 1e-4\nb: on\nc: 017\nd: 1:30\ne: 0o17\nf: &x {g: no, h: ~}\ni: {<<: *x, h: 1_000}\n")
    assert read_yaml(file) == load_yaml(str(file))
    assert read_yaml(file)["a"] == 1e-4 and read_yaml(file)["b"] == "on"
    assert read_yaml("params.yaml") == load_yaml("params.yaml")


def test_integers_where_numbers_are_expected(tmp_path):
    raw = copy.deepcopy(ONE)
    raw["scales"][SCALE]["pretrain"]["optimizer"]["clip"] = 1
    as_float = copy.deepcopy(raw)
    as_float["scales"][SCALE]["pretrain"]["optimizer"]["clip"] = 1.0
    one, other = Params.model_validate(raw), Params.model_validate(as_float)
    assert fingerprint(one) == fingerprint(other)
    assert isinstance(one.scales[SCALE].pretrain.optimizer.clip, float)


def test_fingerprint_is_of_values_not_of_their_order():
    scale = load("params.yaml").scales[SCALE]
    again = Params.model_validate({"scales": {SCALE: dict(reversed(ONE["scales"][SCALE].items()))}}).scales[
        SCALE
    ]
    assert fingerprint(scale) == fingerprint(again) and re.fullmatch("[0-9a-f]{64}", fingerprint(scale))
    changed = scale.nll.model_copy(update={"seed": scale.nll.seed + 1})
    assert fingerprint(changed) != fingerprint(scale.nll)
    assert fingerprint({"b": 1, "a": [2]}) == fingerprint({"a": [2], "b": 1})


def test_an_unknown_scale_is_named():
    with pytest.raises(UserError, match="no scale 'nope'; there are"):
        load("params.yaml").scale("nope")


def test_a_stations_noise_is_checked_like_any_other(tmp_path):
    raw = copy.deepcopy(read_yaml(Path(__file__).parents[1] / "params.yaml"))
    block = raw["scales"]["gallery"]["gallery"]
    for station in (
        block["spiral"],
        block["algorithms"],
        block["forward"],
        block["schedules"],
        block["annealing"]["points"],
    ):
        station["beta_end"] = station["beta_start"] / 2
    lines = lines_of(flow(raw), tmp_path)
    assert len(lines) == 5 and all("beta_end: must not be below beta_start" in line for line in lines)


def test_every_anchor_stands_for_one_thing():
    """A second anchor of the same name is legal YAML, and DVC prints a warning of several lines for it on each run."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        YAML().load(Path(__file__).parents[1].joinpath("params.yaml").read_text())
