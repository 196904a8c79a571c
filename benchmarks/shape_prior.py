"""Structures found without labels under a prior of their shape: vessels of CHASE_DB1, lungs of JSRT.

    python benchmarks/shape_prior.py DATA OUT --shape vessels|lungs [--keys KEYS.json] [--seeds 0,1,2] [--jobs 1]

DATA is the folder of CHASE_DB1 (Image_*.jpg beside Image_*_1stHO.png) or of JSRT (images, labels with 150 and 200 for
the lungs). All pictures are trained on, none with its label; labels only score. Of CHASE, squares of 64 x 64 pixels of
the green channel at half resolution, those that lie in the eye, one picture each; Dice is of all squares of an eye.

For each seed shape_prior.json is trained over cpu.json, and again with a shape_weight of 0; KEYS.json holds other keys
of the two. `segment` makes the masks. Beside them stand

- what a sceptic would try: Otsu's threshold inside the body, darker pixels; of vessels also Frangi's filter, its
  response cut by Otsu's threshold;
- "best of 8": the one region of each network whose Dice is the highest, on the network's grid. Labels choose it: it
  tells what a network knows of the structure, not what one would get.

OUT/dice.csv has a row for each method, seed and image; OUT/masks.png shows some. OUT is gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from ufc_monai.artifacts.transfer import load_weights, read_network
from ufc_monai.base.bundles import CONTRASTIVE, UNET, laid_over
from ufc_monai.losses.discrimination import memberships_of
from ufc_monai.networks.build import build_network
from ufc_monai.report.drawing import save_rows
from ufc_monai.transforms.chain import Standardise, volume_chain

ROOT = Path(__file__).parents[1]
BUNDLES = ROOT / "bundles"
SIDE = 64
"""Of a square of CHASE."""
DARK = 15
"""What is darker is not of the eye."""
SCALES = (1.0, 1.5, 2.0, 3.0)
"""Of Frangi's filter, in pixels."""
LUNGS = (150, 200)
WEIGHTS = {"prior": {}, "no_prior": {"shape_weight": 0}}
Array = NDArray[Any]


def prepare(data: Path, out: Path, shape: str) -> None:
    """Write pictures to ``out/images``, and what only scores to ``out/labels``."""
    for name in ("images", "labels"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for name, image, label in (squares if shape == "vessels" else films)(data):
        Image.fromarray(label.astype(np.uint8) * 255).save(out / "labels" / f"{name}.png")
        Image.fromarray(image).save(out / "images" / f"{name}.png")
    (out / "prepared").touch()


def squares(data: Path) -> Any:
    """The squares of each eye, behind each other: name, picture, label."""
    for path in sorted(data.glob("Image_*.jpg")):
        whole, label = Image.open(path), Image.open(path.with_name(f"{path.stem}_1stHO.png"))
        half = (whole.width // 2, whole.height // 2)
        green = np.asarray(whole.resize(half, Image.Resampling.BOX))[..., 1]
        vessels = np.asarray(label.convert("L").resize(half, Image.Resampling.BOX)) > 127
        for y in range(0, half[1] - SIDE + 1, SIDE):
            for x in range(0, half[0] - SIDE + 1, SIDE):
                part = slice(y, y + SIDE), slice(x, x + SIDE)
                if (green[part] > DARK).mean() > 0.95:
                    yield f"{path.stem}_{y}_{x}", green[part], vessels[part]


def films(data: Path) -> Any:
    """Each film: name, picture, label."""
    for path in sorted((data / "images").iterdir()):
        label = next((data / "labels").glob(f"{path.stem}.*"))
        yield path.stem, np.asarray(Image.open(path).convert("L")), np.isin(np.asarray(Image.open(label)), LUNGS)


def train(out: Path, shape: str, keys: Mapping[str, Any], name: str, seed: int) -> Path:
    """Train and segment in processes of their own, unless it is done; the run's folder."""
    folder = out / f"{name}_{seed}"
    if (folder / "done").is_file():
        return folder
    folder.mkdir(exist_ok=True)
    config = {"window": [0, 255], **keys, **WEIGHTS[name], "shape": shape, "seed": seed, "threads": 1}
    (folder / "keys.json").write_text(json.dumps(config, indent=1))
    configs = [f"{BUNDLES / CONTRASTIVE}/configs/{c}.json" for c in ("train", "cpu", *laid_over("shape_prior"))]
    words = ["monai.bundle", "run", "--config_file", str([*configs, str(folder / "keys.json")])]
    places = {"bundle_root": BUNDLES / CONTRASTIVE, "dataset_dir": out / "images", "split_path": out / "split.json"}
    places |= {"output_dir": folder, "ckpt_dir": folder / "models", "cache_dir": out / "cache"}
    words += [word for key, value in places.items() for word in (f"--{key}", str(value))]
    segment = ["ufc_monai", "segment", "--weights", str(folder / "models" / "structure"), str(out / "images")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with open(folder / "log.txt", "w") as log:
        for command in ([*words, "--resume", "True"], [*segment, str(folder / "masks"), "--existing", "overwrite"]):
            subprocess.run([sys.executable, "-m", *command], stdout=log, stderr=log, check=True, env=environment)
    (folder / "done").touch()
    return folder


def otsu(values: Array) -> float:
    """The threshold that leaves the least variance on its two sides."""
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above, sums = below[-1] - below, (counts * middles).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middles[np.nanargmax(between)])


def body_of(image: Array, shape: str) -> Array:
    """The eye; or what lies within the bright outline of a chest."""
    if shape == "vessels":
        return image > DARK
    pieces, n = ndimage.label(ndimage.binary_fill_holes(image > otsu(image)))
    inside: Array = pieces == 1 + np.argmax(np.bincount(pieces.ravel(), minlength=n + 1)[1:])
    return inside


def dark_inside(image: Array, shape: str) -> Array:
    """Otsu's threshold inside the body: what is darker."""
    body = body_of(image, shape)
    dark: Array = body & (image <= otsu(image[body]))
    return dark


def frangi(image: Array) -> Array:
    """Frangi's filter (1998) for dark lines: the strongest response of several scales, 0 to 1."""
    found = np.zeros(image.shape)
    for scale in SCALES:
        xx, xy, yy = (scale**2 * ndimage.gaussian_filter(image / 255, scale, o) for o in ((2, 0), (1, 1), (0, 2)))
        root = np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
        large, small = (xx + yy) / 2 + root, (xx + yy) / 2 - root
        swap = np.abs(large) < np.abs(small)
        large, small = np.where(swap, small, large), np.where(swap, large, small)
        strength = np.hypot(large, small)
        likeness = np.exp(-((small / np.where(large == 0, 1, large)) ** 2) / 0.5)
        response = likeness * (1 - np.exp(-(strength**2) / (2 * (strength.max() / 2 + 1e-12) ** 2)))
        found = np.maximum(found, np.where(large > 0, response, 0))
    return found


def lines_inside(image: Array) -> Array:
    """Frangi's filter, cut by Otsu's threshold."""
    response = frangi(image)
    cut: Array = response > otsu(response)
    return cut


def best_region(out: Path, folder: Path, labels: Mapping[str, Array]) -> dict[str, float]:
    """Dice of each image by the region that fits all labels best, on the network's grid."""
    record = read_network(folder / "models", CONTRASTIVE)
    network = build_network(record["dense"]).eval()
    load_weights(network, folder / "models")
    read = Compose(volume_chain({**record["preprocessing"], "standardise": False}, 1))
    counts: dict[str, Array] = {}
    for name, label in labels.items():
        image = read({"image": str(out / "images" / f"{name}.png")})["image"]
        pixels = image.as_tensor()[..., 0][None]
        pixels = Standardise()(pixels) if record["preprocessing"]["standardise"] else pixels
        with torch.inference_mode():
            maps = memberships_of(network(pixels)[:, record["embedding_size"] :])[0] > 0.5
        # as pictures lie in a file: from RAS, where both axes run the other way
        found = maps.flip(1, 2).transpose(1, 2).numpy()
        small = F.interpolate(torch.from_numpy(label)[None, None].float(), found.shape[1:], mode="area")[0, 0].numpy()
        true = np.broadcast_to(small > 0.5, found.shape)
        both = np.stack([(found & true).sum((1, 2)), found.sum((1, 2)) + true.sum((1, 2))])
        counts[eye_of(name)] = counts.get(eye_of(name), 0) + both
    dice = pd.DataFrame({name: 2 * both[0] / np.maximum(both[1], 1) for name, both in counts.items()})
    best: dict[str, float] = dice.loc[dice.mean(axis=1).idxmax()].to_dict()
    return best


def eye_of(name: str) -> str:
    """The image that a square is of, or a film's own name."""
    return "_".join(name.split("_")[:2])


def dice_of(masks: Mapping[str, Array], labels: Mapping[str, Array]) -> dict[str, float]:
    """Dice of each image, its squares together."""
    counts: dict[str, Array] = {}
    for name, label in labels.items():
        both = np.array([(masks[name] & label).sum(), masks[name].sum() + label.sum()])
        counts[eye_of(name)] = counts.get(eye_of(name), 0) + both
    return {name: float(2 * both[0] / max(both[1], 1)) for name, both in counts.items()}


def read_masks(folder: Path, ending: str = "") -> dict[str, Array]:
    """The masks of a folder by the names of their pictures."""
    return {p.stem.removesuffix(ending): np.asarray(Image.open(p).convert("L")) > 0 for p in folder.glob("*.png")}


def judge(out: Path, shape: str, runs: Sequence[tuple[str, int, Path]]) -> pd.DataFrame:
    """A row for each method, seed and image; and the picture."""
    labels = dict(sorted(read_masks(out / "labels").items()))
    images = {name: np.asarray(Image.open(out / "images" / f"{name}.png")) for name in labels}
    masks = {("otsu", 0): {name: dark_inside(image, shape) for name, image in images.items()}}
    if shape == "vessels":
        masks["frangi", 0] = {name: lines_inside(image) for name, image in images.items()}
    masks |= {(name, seed): read_masks(folder / "masks", "_seg") for name, seed, folder in runs}
    scores = {key: dice_of(found, labels) for key, found in masks.items()}
    scores |= {(f"{name}_best_of_8", seed): best_region(out, folder, labels) for name, seed, folder in runs}
    shown = [*labels][:: max(1, len(labels) // 8)][:8]
    pictures = np.stack([images[name] / 255 for name in shown])
    # masks shine through, so that what they miss is seen
    rows = [(pictures + np.stack([found[name] for name in shown])) / 2 for found in [labels, *masks.values()]]
    # save_rows takes slices in RAS
    rows = [np.flip(row.swapaxes(1, 2), axis=(1, 2)) for row in [pictures, *rows]]
    titles = [f"{name}, seed {seed}" if name in WEIGHTS else name for name, seed in masks]
    save_rows(out / "masks.png", rows, ["picture", "label", *titles])
    return pd.DataFrame(
        {"method": name, "seed": seed, "image": image, "dice": 100 * dice}
        for (name, seed), found in scores.items()
        for image, dice in found.items()
    )


def main() -> None:
    """Train what is missing, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=("vessels", "lungs"), required=True)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(1)
    out = a.out.resolve()
    if not (out / "prepared").is_file():
        prepare(a.data.resolve(), out, a.shape)
    # `segment` takes the configurations of the bundle beside the runs
    shutil.copytree(BUNDLES / UNET / "configs", out / UNET / "configs", dirs_exist_ok=True)
    keys = json.loads(a.keys.read_text(encoding="utf-8")) if a.keys else {}
    wanted = [(name, seed) for seed in map(int, a.seeds.split(",")) for name in WEIGHTS]
    with ThreadPoolExecutor(a.jobs) as pool:
        folders = list(pool.map(lambda run: train(out, a.shape, keys, *run), wanted))
    table = judge(out, a.shape, [(*run, folder) for run, folder in zip(wanted, folders, strict=True)])
    table.to_csv(out / "dice.csv", index=False, float_format="%.2f")
    by_seed = table.groupby(["method", "seed"], sort=False)["dice"].mean().unstack()
    print(by_seed.round(1).to_string(na_rep=""))
    print("RESULT", *(f"{method}={dice:.1f}" for method, dice in by_seed.mean(axis=1).items()))


if __name__ == "__main__":
    main()
