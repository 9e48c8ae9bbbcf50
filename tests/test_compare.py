"""`mlegfn compare`: two revisions of a small repository, and the checkout."""

import base64
import json
import re
import subprocess
from html.parser import HTMLParser

import pytest

from mlegfn import cli
from mlegfn.pipeline import compare, differences, revisions

PNG = b"\x89PNG\r\n\x1a\n"
CLAIM = {
    "id": "a",
    "claim": "A <is> lower",
    "verdict": "reproduced",
    "estimate": -0.5,
    "interval": [-0.6, -0.4],
}
CLAIM |= {"unit": "bits/dim", "where": "step 4"}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two commits, tagged ``one`` and ``two``, and a checkout that is the second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    git("init", "-q")
    put("metrics/nll/x.json", nll(2.5, [1.0, 2.0]))
    put("metrics/gone.json", "{}")
    put("tables/t.csv", "problem,model,seeds,nll\nmoons,ddpm,3,2.5\nmoons,vlb,3,2.25\n")
    put("report/verdict.json", json.dumps({"claims": [CLAIM, {**CLAIM, "id": "b"}]}))
    put("figures/f.png", PNG + b"1"), put("figures/f.svg", "1"), put("figures/same.png", PNG)
    commit("one")
    put("metrics/nll/x.json", nll(2.25, [1.0, 2.5]))
    (tmp_path / "results/s/metrics/gone.json").unlink()
    put("metrics/new.json", "{}")
    put("tables/t.csv", "problem,model,seeds,nll\nmoons,ddpm,3,2.5\nmoons,vlb,3,2.5\n")
    changed = {**CLAIM, "verdict": "not reproduced", "estimate": 0.25, "interval": [-0.5, 1.0]}
    put("report/verdict.json", json.dumps({"claims": [changed, {**CLAIM, "id": "b"}]}))
    put("figures/f.png", PNG + b"2"), put("figures/new.png", PNG + b"3")
    commit("two")
    return tmp_path


def put(path, text):
    file = revisions.Path("results/s", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def git(*arguments):
    author = ("-c", "user.name=test", "-c", "user.email=test@test")
    subprocess.run(["git", *author, *arguments], check=True, capture_output=True)


def commit(name):
    git("add", "-A"), git("commit", "-qm", f"commit {name}"), git("tag", name)


def nll(value, terms):
    runs = [{"seed": seed, "model": "ddpm", "nll": value + seed} for seed in (0, 1)]
    return json.dumps({"scale": "s", "runs": runs, "terms": terms})


def ask(capsys, *arguments, code=0):
    assert cli.main(["compare", "--scale", "s", *arguments]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err and (not code or err.count("\n") == 1)
    return err if code else out


def test_two_commits(repository, capsys):
    said = ask(capsys, "one", "two")
    assert re.search(r"from  one: [0-9a-f]{7,}  20\S+  commit one\n  to    two: .*commit two\n", said)
    assert "Verdicts: 1 changed" in said
    assert (
        "a: reproduced -> not reproduced\n    -0.5 [-0.6, -0.4] bits/dim, step 4\n    0.25 [-0.5, 1]" in said
    )
    assert "  b:" not in said
    assert "runs [ddpm, 0] · nll: 2.5 -> 2.25 (-0.25)" in said
    assert "runs [ddpm, 1] · nll: 3.5 -> 3.25 (-0.25)" in said
    assert "terms: a list of 2 -> a list of 2 (1 of 2 differ, by up to 0.5)" in said
    assert "moons, vlb · nll: 2.25 -> 2.5 (+0.25)" in said and "ddpm · " not in said
    assert "Figures: 2 changed\n  results/s/figures/f\n  results/s/figures/new (new)\n" in said
    assert "Only in the second: 1 file(s)\n  results/s/metrics/new.json" in said
    assert "Only in the first: 1 file(s)\n  results/s/metrics/gone.json" in said
    assert "Equal: 2 files" in said


def test_the_checkout(repository, capsys):
    said = ask(capsys, "two")
    assert "to    the checkout as it is\n  no difference in 8 files" in said
    put("metrics/nll/x.json", nll(2.0, [1.0, 2.5]))
    assert "runs [ddpm, 0] · nll: 2.25 -> 2 (-0.25)" in ask(capsys, "two")
    put("metrics/nll/x.json", '{"broken": ')  # by hand: it says so, and nothing fails
    assert "nll: 2.25 -> -" in ask(capsys, "two")


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.words, self.outside, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(
                (attributes["alt"], base64.b64decode(attributes["src"].partition("base64,")[2]))
            )
        for name in ("src", "href"):
            if not (attributes.get(name) or "data:").startswith("data:"):
                self.outside.append(attributes[name])
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())


def test_the_page_has_both_figures_and_nothing_from_outside(repository, capsys):
    assert "page.html: written" in ask(capsys, "one", "two", "--html", "page.html")
    text = (repository / "page.html").read_text()
    page = Page(text)
    assert [content for _, content in page.images] == [PNG + b"1", PNG + b"2", PNG + b"3"]
    assert all("results/s/figures/" in alt and "commit" in alt for alt, _ in page.images)
    assert not page.outside and not page.open
    assert "not there" in page.words  # where the new figure was not
    assert "A <is> lower" in page.words and "A <is>" not in text  # escaped
    assert {"2.5", "2.25", "(-0.25)", "not reproduced"} <= set(page.words)
    assert "color-scheme: light dark" in text


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["nowhere"], "nowhere: git knows no such revision"),
        (["one", "nowhere"], "nowhere: git knows no such revision"),
        (["one:results"], "git knows no such revision"),
        (["one", "--scale", "t"], "results/t: no metrics, tables or figures at one"),
        (["one", "--scale", "../s"], "not the name of a scale"),
        (["one", "--html", "."], ".: cannot be written"),
        (["one", "--html", "results/s/metrics/new.json/x"], "cannot be written"),
    ],
)
def test_mistakes(repository, capsys, arguments, said):
    assert said in ask(capsys, *arguments, code=2)
    assert not list(repository.glob(".*.html*"))


def test_nothing_in_the_checkout_or_no_git(repository, capsys, monkeypatch):
    (repository / "results").rename(repository / "elsewhere")
    assert "no metrics, tables or figures here" in ask(capsys, "one", code=2)
    (repository / ".git").rename(repository / "no-git")
    assert "not a git repository" in ask(capsys, "one", code=2)
    monkeypatch.setenv("PATH", str(repository))
    assert "git: not found" in ask(capsys, "one", code=2)


def test_rounding_comes_last():
    before = json.dumps({"a": 1.0, "b": 1.0, "c": "x"}).encode()
    after = json.dumps({"a": 1.0 + 1e-15, "b": 1.5, "c": "y"}).encode()
    assert [row[0] for row in differences.changed("m.json", before, after)] == ["c", "b", "a"]


def test_rows_of_a_table_that_nothing_tells_apart():
    assert list(differences.table("a,b\nx,1.5\nx,2.5\n")) == ["x", "x (1)"]
    assert differences.table("a,b\n") == {} and differences.table("") == {}
    assert list(differences.table("v\n1.5\n2.5\n")) == ["", " (1)"]


def test_a_report_without_claims_is_none():
    for content in (b"[]", b"{", b'{"claims": [1, {"id": "a"}]}', b""):
        assert compare.claims(content) == {}
