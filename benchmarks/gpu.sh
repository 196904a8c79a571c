#!/usr/bin/env bash
# Every figure that wants a GPU, in under nine minutes on an H100; what is wanted most comes first.
#
#     bash benchmarks/gpu.sh OUT [DATA] [--dry]
#
# Each part leaves OUT/NAME.txt and its RESULT line in OUT/results.txt; OUT/parts.txt has exit codes and seconds. DATA is
# a data set of small volumes for the last part, fine-tuning at 128 x 128:
#
#     python benchmarks/small_data.py BTCV DATA --keys KEYS.json   # and DATA/data is what to name here
#
# Packages that the machine lacks are taken from a folder "wheels" in the repository, where there is one; on the way there:
#
#     pip download --no-deps --only-binary :all: --python-version 3.12 -d wheels monai==1.6.1 pytorch-ignite kornia kornia_rs nibabel fire termcolor kneed SimpleITK isal
#
# --dry tries all of it at small sizes on the CPU.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=$1 DATA=${2:-} DRY=${3:-}
[[ $DATA == --dry ]] && DATA="" DRY=--dry
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD:$PWD/benchmarks
mkdir -p "$OUT"
compgen -G "wheels/*.whl" >/dev/null && $PYTHON -m pip install --quiet --no-deps --no-index wheels/*.whl

if [[ $DRY ]]; then
    device=cpu size=32 batch=(--batch_size 8) steps=3 rounds=1 ward="500 1000" deep=800 slices=8 side=64
    small=(--preset cpu --set ufc_unet_segmentation.image_size=32 --set ufc_unet_segmentation.min_steps=4 --set ufc_unet_segmentation.epochs=1)
else
    device=cuda size=256 batch=() steps=40 rounds=3 ward=45141 deep=1000000 slices=200 side=512
    small=(--preset gpu --set ufc_unet_segmentation.image_size=128)
fi

part() { # NAME SECONDS COMMAND: run it, not longer than that
    local name=$1 limit=$2 began=$SECONDS
    shift 2
    timeout "$limit" "$PYTHON" -W ignore "$@" >"$OUT/$name.txt" 2>&1
    echo "$name exit=$? seconds=$((SECONDS - began))" | tee -a "$OUT/parts.txt"
    sed -n "s/^RESULT/$name/p" "$OUT/$name.txt" | tee -a "$OUT/results.txt"
}
throughput() { # STAGE PRECISION ...
    local stage=$1 precision=$2
    shift 2
    part "stage$stage-$precision$(printf %s "$@")" 60 benchmarks/throughput.py --stage "$stage" --precision "$precision" \
        --preset gpu --image_size $size --device $device --steps $steps --rounds $rounds "${batch[@]}" "$@"
}
few() { # DRAWS
    part "few-labels-$1" 240 -m ufc_monai study --dataset_dir "$DATA" --folder "$OUT/few" --device $device \
        --methods random+paper,random,random+self_training --budgets 2 --folds 1 --seeds "$1" --init_seeds 1 \
        --window "[0,255]" "${small[@]}"
}

for stage in 2 3 1; do throughput $stage bf16; done
[[ $DATA ]] && few 1
part inference 60 benchmarks/inference.py --device $device --size $side --slices $slices --rounds $rounds
part ward 60 benchmarks/clustering.py --device $device --n $ward --peers --repeats 1
for stage in 2 3 1; do throughput $stage fp32; done
part ward-deep 90 benchmarks/clustering.py --device $device --n $deep --d 128 --peers --repeats 1
for stage in 2 3; do throughput $stage bf16 --compile; done
[[ $DATA ]] && few 3
echo "tables: $OUT"
