"""A bundle's ro-crate-metadata.json: every file, and what each stage's run read and made.

RO-Crate 1.1 and Workflow RO-Crate 1.0, written by the library `rocrate`; the Snakefile is the workflow, a stage's
module the instrument of its runs. Ids are paths, names and keys, never random; dates are the commit's and the
runs' own.
"""

import json
from datetime import datetime, timedelta

from mlegfn.errors import UserError
from mlegfn.pipeline.snapshot import look_up
from mlegfn.yaml_file import read_yaml

VERSION = "1.1"
WORKFLOW, CITATION, LICENSE = "Snakefile", "CITATION.cff", "LICENSE"
# Not by the module `mimetypes`, which asks the machine, and every machine says something else.
FORMATS = {
    ".cff": "application/yaml",
    ".csv": "text/csv",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".py": "text/x-python",
    ".safetensors": "application/octet-stream",
    ".sh": "application/x-sh",
    ".svg": "image/svg+xml",
    ".toml": "application/toml",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}


def metadata(members, recorded, commit, version):
    """The file's bytes.

    ``members``: path → Member of everything else in the archive; ``recorded``: stage → its entry of dvc.lock;
    ``commit``: its ``hash`` and ``date``.
    """
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version=VERSION)
    citation = read_citation(members)
    spdx = f"https://spdx.org/licenses/{citation['license']}"
    licence = crate.add(
        ContextEntity(crate, spdx, {"@type": "CreativeWork", "name": citation["license"], "url": spdx})
    )
    authors = [add_author(crate, author) for author in citation["authors"]]
    root = crate.root_dataset
    root["name"] = f"{citation['title']} {version}"
    root["description"] = (
        "Code, settings, figures, tables, metrics, verdicts and provenance of a reproduction of "
        + " and ".join(reference["title"] for reference in citation.get("references", ()))
    )
    root["datePublished"] = commit["date"]
    root["version"] = f"{version}+{commit['hash'][:12]}"
    root["identifier"] = commit["hash"]
    root["license"] = licence
    root["author"] = authors
    root["citation"] = [add_reference(crate, reference) for reference in citation.get("references", ())]
    crate.metadata["license"] = licence

    files = {path: add_file(crate, members[path], licence) for path in sorted(members)}
    crate.add_file(dest_path="SHA256SUMS", properties={"name": "SHA256SUMS", "encodingFormat": "text/plain"})
    files[WORKFLOW]["author"] = authors
    settings = read_yaml("params.yaml")
    root["mentions"] = [
        add_run(crate, name, recorded[name], members, files, settings) for name in sorted(recorded)
    ]
    return (
        json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    ).encode()


def read_citation(members):
    """CITATION.cff, with a title, a licence, authors and, perhaps, references; else a UserError."""
    import yaml

    try:
        found = yaml.safe_load(members[CITATION].content)
        people = [*found["authors"], *(a for each in found.get("references", ()) for a in each["authors"])]
        assert all(isinstance(found[key], str) for key in ("title", "license")) and found["authors"]
        assert all("title" in each for each in found.get("references", ()))
        assert all("name" in person or "family-names" in person for person in people)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, AssertionError):
        raise UserError(
            f"{CITATION}: needs `title`, `license`, `authors` and, of each of `references`, `title` and `authors`"
        ) from None
    return found


def full_name(author):
    """Of a person, or of an entity."""
    return author.get("name") or f"{author.get('given-names', '')} {author['family-names']}".strip()


def add_author(crate, author):
    """A person of CITATION.cff, or an entity that has only a name."""
    from rocrate.model.contextentity import ContextEntity

    name = full_name(author)
    properties = {"@type": "Organization" if "name" in author else "Person", "name": name}
    return crate.add(ContextEntity(crate, author.get("orcid") or f"#{name.replace(' ', '-')}", properties))


def add_reference(crate, reference):
    """A paper that CITATION.cff refers to, by its DOI or its arXiv number where it has one."""
    from rocrate.model.contextentity import ContextEntity

    title, notes = reference["title"], str(reference.get("notes", ""))
    where = (
        f"https://arxiv.org/abs/{notes.split()[1]}"
        if notes.startswith("arXiv ")
        else f"#{title.replace(' ', '-')}"
    )
    if "doi" in reference:
        where = f"https://doi.org/{reference['doi']}"
    properties = {
        "@type": "ScholarlyArticle",
        "name": title,
        "creditText": ", ".join(map(full_name, reference["authors"])),
    }
    if "year" in reference:
        properties["datePublished"] = str(reference["year"])
    return crate.add(ContextEntity(crate, where, properties))


def add_file(crate, member, licence):
    """A file with its size, SHA-256 and format; a module of source code is one that can be an instrument."""
    suffix = f".{member.path.rpartition('/')[2].rpartition('.')[2]}" if "." in member.path[1:] else ""
    properties = {
        "name": member.path,
        "contentSize": str(member.size),
        "sha256": member.sha256,
        "encodingFormat": FORMATS.get(suffix, "text/plain"),
        "license": licence,
    }
    if member.path == WORKFLOW:
        properties |= {"name": "mlegfn", "encodingFormat": "text/x-python"}
        return crate.add_workflow(dest_path=member.path, properties=properties, main=True, lang="snakemake")
    if suffix == ".py":
        properties["@type"] = ["File", "SoftwareSourceCode"]
    return crate.add_file(dest_path=member.path, properties=properties)


def add_run(crate, name, entry, members, files, settings):
    """A stage's run: its module, what it read, the settings among it, what it made; times where they were recorded."""
    record, path = run_record(name, entry, members)
    stage = name.partition("@")[0]
    read = [item for dep in entry.get("deps", ()) for item in items(crate, dep, files)]
    for key in sorted(entry.get("params", {}).get("params.yaml", ())):
        read.append(setting(crate, key, look_up(settings, key)))
    properties = {"name": name, "description": entry["cmd"]}
    if record:
        start = datetime.fromisoformat(record["started"])
        properties["startTime"] = start.isoformat()
        properties["endTime"] = (start + timedelta(seconds=record["wall_s"])).isoformat(timespec="seconds")
        found = record["device"]
        properties["description"] += (
            f" (on {found['name']}: {found['kind']}, {found['cores']} cores, {found['machine']})"
        )
        properties["subjectOf"] = files[path]
    return crate.add_action(
        [module for path in (f"src/mlegfn/stages/{stage}.py", WORKFLOW) if (module := files.get(path))],
        identifier=f"#run/{name}",
        object=read,
        result=[item for out in entry.get("outs", ()) for item in items(crate, out, files)],
        properties=properties,
    )


def run_record(name, entry, members):
    """results/<scale>/provenance/<stage>.json and its path; None where it is not of the run that dvc.lock records."""
    made = {out["path"]: out["md5"] for out in entry.get("outs", ())}
    scale = next((p.split("/")[1] for p in made if p.startswith(("results/", "data/"))), None)
    path = f"results/{scale}/provenance/{name}.json"
    try:
        record = json.loads(members[path].content) if path in members else {}
        return (record, path) if record.get("outputs") == made else (None, path)
    except (ValueError, AttributeError):
        raise UserError(f"{path}: not a provenance record; restore it from git") from None


def items(crate, entry, files):
    """The entities of a path that dvc.lock records: the file, the files of a folder, or a note of what is elsewhere."""
    from rocrate.model.contextentity import ContextEntity

    path = entry["path"]
    if path in files:
        return [files[path]]
    if inside := [file for each, file in files.items() if each.startswith(f"{path}/")]:
        return inside
    properties = {
        "@type": "CreativeWork",
        "name": path,
        "identifier": f"md5:{entry['md5']}",
        "description": "not in this archive; DVC's remote has it under this MD5",
    }
    return [crate.add(ContextEntity(crate, f"#elsewhere/{path}/{entry['md5']}", properties))]


def setting(crate, key, value):
    """A setting of params.yaml as a PropertyValue, which all runs that read it share."""
    from rocrate.model.contextentity import ContextEntity

    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    properties = {"@type": "PropertyValue", "name": key, "value": text}
    return crate.add(ContextEntity(crate, f"#setting/{key}", properties))
