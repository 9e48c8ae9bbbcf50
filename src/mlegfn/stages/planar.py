"""stub"""
import json, os, time
from pathlib import Path
from mlegfn.artifacts import write_json, write_text, atomic_directory
NAME='planar'
def out(path, value):
    write_json(path, value)
def folder(path, value):
    with atomic_directory(path) as d:
        (d/"model.json").write_text(json.dumps(value)); (d/"b.json").write_text("1")
def run(scale_name, scale, **key):
    S=Path("results")/scale_name
    time.sleep(float(os.environ.get("STUB_SLEEP","0.2")))
    if os.environ.get("STUB_FAIL")==NAME: raise RuntimeError("stub fails")
    print(NAME, key, "runs")
    D=Path("data")/scale_name
    if NAME=="fetch":
        out(D/"images.safetensors", scale.data.model_dump()); out(D/"dataset.json", dict(a=1))
    elif NAME=="pretrain":
        v=dict(step=key["step"], lr=scale.pretrain.optimizer.lr)
        folder(S/"checkpoints"/f"pretrain-{key['step']}", v); out(S/"metrics/pretrain"/f"{key['step']}.json", v)
    elif NAME=="finetune":
        r="-".join(map(str,key.values())); v=dict(key, lr=scale.finetune.optimizer.lr)
        if key["arm"]=="tbc": v["w"]=scale.finetune.consistency.weight
        v["src"]=json.loads((S/"checkpoints"/f"pretrain-{key['step']}"/"model.json").read_text())
        folder(S/"checkpoints"/f"finetune-{r}", v); out(S/"metrics/finetune"/f"{r}.json", v)
    elif NAME=="nll":
        if key["arm"]=="baseline": r=f"baseline-{key['step']}"; m=f"pretrain-{key['step']}"
        else: r="-".join(map(str,key.values())); m="finetune-"+r
        v=json.loads((S/"checkpoints"/m/"model.json").read_text())
        out(S/"metrics/nll"/f"{r}.json", dict(v, seed2=scale.nll.seed))
    elif NAME=="trajectories": out(S/"samples/trajectories.safetensors", 1)
    elif NAME=="planar":
        p=key["problem"]; out(S/"samples"/f"planar-{p}.safetensors", p); out(S/"metrics/planar"/f"{p}.json", dict(p=p))
    elif NAME=="figures":
        v=[(f.name, json.loads(f.read_text())) for f in sorted((S/"metrics/nll").glob("*.json"))]
        for i in (1,2,3):
            for e in ("pdf","png","svg"): out(S/"figures"/f"figure{i}.{e}", v)
    elif NAME=="tables":
        v=[(f.name, json.loads(f.read_text())) for f in sorted((S/"metrics/nll").glob("*.json"))]
        for i in ("nll","paired","planar"):
            for e in ("csv","md"): out(S/"tables"/f"{i}.{e}", v)
    elif NAME=="verdict":
        out(S/"report/verdict.json", [1]); write_text(S/"report/verdict.md", "| claim | verdict |\n|---|---|\n| a | b |\n")
