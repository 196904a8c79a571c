"""Train the demonstration weights that the three bundles come with, on synthetic patients.

    python benchmarks/demonstration_weights.py --folder FOLDER

Makes 16 synthetic patients, 12 of them labelled, and runs the whole chain on them with narrow networks, as
``python -m ufc_monai run`` would; half an hour on a busy machine of two cores. Then it copies ``model.pt`` and
``network.json``, marked as a demonstration, into ``bundles/*/models``, and brings ``metadata.json`` in line with them.
Run again with the same folder, complete stages are skipped.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from pathlib import Path

from ufc_monai.bundles import BUNDLES, CONTRASTIVE, UNET, VAE
from ufc_monai.commands.options import RunOptions
from ufc_monai.commands.run import run_all
from ufc_monai.phantom import make_phantom
from ufc_monai.zoo import without_patients, write_metadata

SOURCE = Path(__file__).parents[1] / "bundles"
NOTE = "trained on synthetic patients to show that everything works; knows nothing of real ones"
UNET_SIZE = {"image_size": 96, "features": [8, 16, 32, 48, 64, 8]}
"""Each file stays below 1 MB."""
OVERRIDES = {
    VAE: {"vae_channels": [8, 16, 32, 48], "latent_size": 32, "min_steps": 1400, "learning_rate": 0.003},
    CONTRASTIVE: {**UNET_SIZE, "head_hidden": 256, "embedding_size": 64, "epochs": 12, "min_steps": 0},
    UNET: {**UNET_SIZE, "epochs": 30, "val_interval": 5},
}


def main() -> None:
    """Train, then put the weights in their places."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("ufc_monai").setLevel(logging.INFO)
    data = folder / "phantom"
    if not data.exists():
        make_phantom(data, patients=16, labelled=12)
    keys = {"threads": 1, "device": "cpu"}
    run_all(RunOptions(data, folder / "run", SOURCE, preset="cpu", keys=keys, overrides=OVERRIDES, estimate=False))
    for name in BUNDLES:
        place(folder / "run" / name / "models", SOURCE / name)


def place(trained: Path, bundle: Path) -> None:
    """Copy weights into a bundle, say what they are, and have metadata.json describe them."""
    (bundle / "models").mkdir(exist_ok=True)
    shutil.copyfile(trained / "model.pt", bundle / "models" / "model.pt")
    network = json.loads((trained / "network.json").read_text(encoding="utf-8")) | {"demonstration": NOTE}
    (bundle / "models" / "network.json").write_text(json.dumps(network, indent=2) + "\n", encoding="utf-8")
    if (centroids := trained / "centroids.npz").is_file():
        (bundle / "models" / "centroids.npz").write_bytes(without_patients(centroids.read_bytes()))
    write_metadata(bundle)


if __name__ == "__main__":
    main()
