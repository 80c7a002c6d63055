#!/usr/bin/env bash
# The paper's run, from the published files to its table: docs/real-run.md. Started again, it goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
SETS=${SETS:-sets}                            # train/ and test/, each with a folder of Parquet files for every set
OUT=${OUT:-real-run}
MODEL=${MODEL:-Qwen/Qwen2.5-VL-7B-Instruct}   # a folder, or a hub id
RECIPE=${RECIPE:-qwen2.5-vl-7b}               # a shipped recipe, or a YAML file
BUILD=${BUILD:-$here/build.yaml}              # which models find, caption and rewrite; its paths are absolute
GPUS=${GPUS:-8}
STEPS=${STEPS:-}                              # of each training stage, for a trial; otherwise the recipe's
EXPORT=$OUT/work/exports/guardset/1

stop() { echo "$1" >&2; exit 1; }
say() { printf '\n== %s\n' "$1"; }
train() { torchrun --standalone --nproc_per_node "$GPUS" "$(command -v guardset)" train "$@" ${STEPS:+--steps "$STEPS"}; }

for set in train/unsafebench train/llavaguard train/safeeditbench test/unsafebench test/llavaguard test/safeeditbench; do
  [ -n "$(find "$SETS/$set" -name '*.parquet' -print -quit 2>/dev/null)" ] ||
    stop "$SETS/$set holds no Parquet file. docs/real-run.md has the command that gets it."
done
needs=$(python "$here/needs.py" "$BUILD" "$RECIPE")
ability=${needs##*$'\n'}
while read -r model; do
  [ -d "$model" ] || hf download "$model" --quiet >/dev/null ||
    stop "The model $model is neither a folder nor to be had from the hub. docs/real-run.md has the command that gets it."
done <<< "$MODEL"$'\n'"${needs%$'\n'*}"
[ "$ability" = none ] || command -v "$ability" >/dev/null ||
  stop "The recipe $RECIPE measures general ability with $ability, which is not on PATH: see docs/training.md."

mkdir -p "$OUT"
sets=$(realpath "$SETS")
{
  cat "$BUILD"
  cat <<YAML
export:
  test_ratio: 0                               # the published test splits test
  views: [sft, sft_own_caption, preference, rl]
  other_benchmarks: ["$sets/test"]
  rl: {balance: [policy]}
YAML
} > "$OUT/build.yaml"
cat > "$OUT/evaluation.yaml" <<YAML
evaluate:
  reruns: 1
  paraphrases: 0
  blind: false
  benchmarks:
    - {name: SafeEditBench, data: "$sets/test/safeeditbench"}
    - {name: UnsafeBench, data: "$sets/test/unsafebench"}
    - {name: LlavaGuard, data: "$sets/test/llavaguard"}
  models:
    - {name: "base, one word", model: "$MODEL", adapter: plain}
    - {name: base, model: "$MODEL"}
    - {name: SFT, model: "$(realpath "$OUT")/sft/model"}
    - {name: SFT + RL, model: "$(realpath "$OUT")/grpo/model"}
YAML

say "1 of 6: captions of the training images"
guardset build --input "$SETS/train" --workspace "$OUT/work" --config "$OUT/build.yaml" --no-publish
say "2 of 6: an export for training"
guardset export --workspace "$OUT/work" --version 1 \
  --labels "$SETS/train/safeeditbench" --labels "$SETS/train/llavaguard" --labels "$SETS/train/unsafebench"
say "3 of 6: fine-tuning on captions"
train sft --data "$EXPORT" --recipe "$RECIPE" --model "$MODEL" --out "$OUT/sft"
say "4 of 6: rewards for right verdicts"
train grpo --data "$EXPORT" --recipe "$RECIPE" --model "$OUT/sft/model" --out "$OUT/grpo"
say "5 of 6: the benchmarks"
guardset evaluate --workspace "$OUT/work" --config "$OUT/evaluation.yaml"
say "6 of 6: the table"
python "$here/table.py" "$OUT/work" | tee "$OUT/table.md"
