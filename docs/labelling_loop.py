# %% [markdown]
# # The labelling loop
#
# Label a few scans, train, look, correct the worst mask, train again. The patients are synthetic and the trainings
# short, so that all of it takes minutes on two cores. It shows how the loop works; the figures mean nothing. How long
# a round of real scans takes, `check` and `run` say beforehand: minutes to an hour with the small networks here.
#
# Cells of commands work as well in a terminal. Everything goes to a temporary folder.

# %%
import os
import shutil
import tempfile
from pathlib import Path

os.chdir(tempfile.mkdtemp(prefix="labelling_loop_"))
# fewer steps than anybody would take; a real run needs none of these settings
few = "ufc_feature_vae.epochs=4 ufc_feature_vae.min_steps=100 ufc_cluster_contrastive.epochs=1"
few += " ufc_cluster_contrastive.min_steps=50 ufc_unet_segmentation.epochs=1 ufc_unet_segmentation.min_steps=240"
few += " ufc_unet_segmentation.warm_up_steps=120 ufc_unet_segmentation.round_steps=60"
os.environ.setdefault("FEW_STEPS", " ".join(f"--set {setting}" for setting in few.split()))
print(os.getcwd())

# %% [markdown]
# ## Scans, and a look before training
#
# Nine patients. The folder `answers` holds all labels: it stands for the person who corrects. In `scans` three are
# missing.

# %%
from ufc_monai.phantom.ct import make_phantom

make_phantom("answers", patients=9, matrix=64)
shutil.copytree("answers", "scans")
for number in (1007, 1008, 1009):
    Path(f"scans/ct_train_{number}_label.nii.gz").unlink()

# %% language="bash"
# python -m ufc_monai check scans --preset cpu

# %% [markdown]
# Every patient's middle slice with its labels. An outline that lies beside its organ here is never learned as it
# should be.

# %%
from IPython.display import SVG, Image, display

display(Image("check_preview.png", width=700))

# %% [markdown]
# ## The first round, with self-training and without
#
# One command runs all stages. `--unlabelled self_training` lets the network label the other scans itself and learn
# what it is sure of; `--compare` trains it without them, and from random weights, too. The table near the end
# has a column for each; one run each, so a few points are chance.

# %% language="bash"
# python -m ufc_monai run --dataset_dir scans --preset cpu --unlabelled self_training --compare $FEW_STEPS

# %% [markdown]
# ## Look at the clusters
#
# A row is a cluster. It should show one level of the body, from many patients; a row of one patient follows the
# patient.

# %%
display(Image("run/ufc_feature_vae/eval/inference/clusters.png", width=700))

# %% [markdown]
# ## Which scan to correct
#
# `quality.csv` predicts how good each mask without a label is. `next` names those to label; `quality` takes the one
# that is probably worst, `coverage` the one that shows most of what no labelled scan shows.

# %% language="bash"
# python -m ufc_monai next --folder run --budget 1 --strategy quality

# %%
import json

import nibabel as nib
import numpy as np

worst = json.loads(Path("run/selection_quality.json").read_text())["chosen"][0]
name = worst.removesuffix("_image.nii.gz")
draft = nib.load(next(Path("run/ufc_unet_segmentation/eval/inference").rglob(f"{name}*_seg.nii.gz")))
answer = nib.load(f"answers/{name}_label.nii.gz")
wrong = np.asarray(draft.dataobj) != np.asarray(answer.dataobj)
print(f"{worst}: {wrong.sum()} of {wrong.size} voxels are corrected")

# %% [markdown]
# ## Correct one mask
#
# In your work this is an hour in a viewer: open the draft, correct it, save it beside the scan under a label's name.
# Here the answer is at hand. The slice with most to correct, before and after:

# %%
import matplotlib.pyplot as plt

k = int(wrong.sum(axis=(0, 1)).argmax())
shown = {"scan": nib.load(f"scans/{worst}"), "draft": draft, "corrected": answer}
figure, axes = plt.subplots(1, 3, figsize=(9, 3))
for panel, (title, volume) in zip(axes, shown.items(), strict=True):
    panel.imshow(np.rot90(np.asarray(volume.dataobj)[:, :, k]), cmap="gray" if title == "scan" else "nipy_spectral")
    panel.set(title=title, xticks=[], yticks=[])
nib.save(answer, f"scans/{name}_label.nii.gz")

# %% [markdown]
# ## The second round
#
# The same command again. It sees the new label and opens `run/rounds/2`: stages 1 and 2 and the split stay,
# fine-tuning begins anew.

# %% language="bash"
# python -m ufc_monai run --dataset_dir scans --preset cpu --unlabelled self_training --compare $FEW_STEPS

# %% [markdown]
# ## The curve
#
# Test Dice against the number of labelled volumes, on the same test patients in each round. Go on while it rises.

# %%
from ufc_monai.report.curves import rounds_svg
from ufc_monai.report.rounds import read_rounds

rounds = read_rounds(Path("run"))
display(SVG(rounds_svg([(found.volumes, found.dice) for found in rounds])))

# %% [markdown]
# All of it is in `run/report.html`: the masks, worst first, the rounds, the clusters. `python -m ufc_monai segment
# --weights run IN OUT` makes masks of new scans. [How-to](how-to.md) has your own data, windows and labels.
