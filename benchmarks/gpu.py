"""One GPU beside the CPU of its machine: training, recognition, environments; and the golden cases on it.

python benchmarks/gpu.py

Under 10 minutes on one GPU, without network; writes one JSON. Speeds are medians of synchronised rounds with
torch's own defaults (in float32 a GPU's convolutions are TF32, its matrix products are not). The golden cases
are checked in float32 alone, TF32 being off. What fails is noted, and the exit status is 1; it is 2 where
there is no GPU. ``--device cpu --quick`` runs the same code with the CPU in the GPU's place.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # progress is printed here
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the golden cases, which are part of the tests

import gpu_environments  # noqa: E402
import gpu_systems  # noqa: E402
import torch  # noqa: E402
from gpu_timing import Bench, Limits  # noqa: E402

from compare.run_folder import machine_facts  # noqa: E402
from tests.golden import checks  # noqa: E402
from video_env.cache.build import versions  # noqa: E402
from video_env.errors import InputError  # noqa: E402
from video_env.models.device import resolve_device  # noqa: E402

PARTS = ("golden", "systems", "environments")


def check_golden(bench: Bench, folder: Path, *, quick: bool) -> list[dict[str, Any]]:
    """Every golden case on the device: a row for each output; one beyond what is allowed is an error."""
    rows: list[dict[str, Any]] = []

    def run(case: str, check: Any) -> None:
        with checks.float32_alone():
            found = check()
        rows.extend(
            {"case": case, "output": output, **one._asdict(), "within": one.within}
            for output, one in found.items()
        )
        print(f"[{bench.seconds:4.0f} s]   largest deviation {max(one.found for one in found.values()):.1e}")
        checks.require(found)

    for case, check in checks.cases(bench.gpu, folder).items():
        if not (quick and case in SLOW_ON_A_CPU):
            bench.part(f"golden case {case}", lambda case=case, check=check: run(case, check))
    return rows


SLOW_ON_A_CPU = ("OCSampler: loss and gradient", "AdaFocusV2: loss and gradients")


def gpu_facts(device: torch.device) -> dict[str, Any]:
    """Of the GPU and of what torch was built with."""
    facts: dict[str, Any] = {
        "torch_cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_matrix_products": torch.backends.cuda.matmul.allow_tf32,
        "torch_threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "gpu_memory_gib": properties.total_memory / 2**30,
            "gpu_capability": f"{properties.major}.{properties.minor}",
            "driver": _driver(),
        }
    return facts


def _driver() -> str | None:
    """The driver's version, where its own tool tells."""
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
        return said.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def write(file: Path, bench: Bench, golden: list[dict[str, Any]], *, quick: bool) -> None:
    """After every part, so that a kill loses one part only."""
    report = {
        "command": " ".join(["python", *sys.argv]),
        "machine": {**machine_facts(), **gpu_facts(bench.gpu), "packages": versions()},
        "device": str(bench.gpu),
        "quick": quick,
        "limits": {"rounds": bench.limits.rounds, "seconds": bench.limits.seconds},
        "figures": [figure.record() for figure in bench.figures],
        "golden": golden,
        "errors": bench.errors,
        "seconds": bench.seconds,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto is the first GPU; or cuda:1, ..., or cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try it out")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="some parts (default: all)")
    parser.add_argument(
        "--out", type=Path, help="default: docs/results/gpu.json; of a trial, runs/benchmarks/gpu.json"
    )
    options = parser.parse_args()
    try:
        device = resolve_device(options.device)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if device.type != "cuda" and options.device == "auto":
        print("error: no GPU here; --device cpu --quick tries the benchmark out on the CPU", file=sys.stderr)
        return 2
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    if options.out is None:
        trial = options.quick or device.type != "cuda"  # not to be taken for a measurement
        options.out = ROOT / ("runs/benchmarks" if trial else "docs/results") / "gpu.json"
    bench = Bench(device, Limits(1, 2.0, 300.0) if options.quick else Limits(5, 20.0, 480.0))
    golden: list[dict[str, Any]] = []
    print(f"{'a few minutes' if options.quick else 'under 10 minutes'}; the GPU's side runs on {device}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "golden" in options.only:
            golden = check_golden(bench, folder / "golden", quick=options.quick)
            write(options.out, bench, golden, quick=options.quick)
        if "systems" in options.only:
            sizes = gpu_systems.SMALL if options.quick else gpu_systems.Sizes()
            gpu_systems.measure(bench, sizes, folder / "systems")
            write(options.out, bench, golden, quick=options.quick)
        if "environments" in options.only:
            small: dict[str, int] = {"num_envs": 64, "videos": 64, "episodes": 4} if options.quick else {}
            gpu_environments.measure(bench, folder / "environments", **small)
        write(options.out, bench, golden, quick=options.quick)
    print(f"written: {options.out} ({bench.seconds:.0f} s)")
    for name, error in bench.errors.items():
        print(f"FAILED {name}: {error}", file=sys.stderr)
    return 1 if bench.errors else 0


if __name__ == "__main__":
    sys.exit(main())
