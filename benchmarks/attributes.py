"""How well attributes that people confirm once label a policy: held against people's verdicts and the scenes' truth.

python benchmarks/attributes.py [--scenes 600] [--svg attributes.svg]

Drawn scenes, of which it is known what they show; two scripted people with the errors of micro/people.py, and with
several times as many. A label needs both to agree. "agree" is the share of equal labels where verdicts and attributes
both give one, with the interval that `guardset status` prints; "right" is the share of a way's labels that the scenes'
truth gives too, and "labelled" the share of all scenes that it labels at all.
"""

import argparse
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from annotation.agreement import labels
from annotation.attribute_agreement import AttributeAgreement, attribute_agreement
from annotation.attributes import confirmed
from micro.people import People, opinions
from micro.scenes import draw_scene
from micro.world import VOCABULARY, WORLD
from reporting import plots

PEOPLE = ("ann", "ben")
CROWDS = {
    "as by default": People(),
    "careless": People(miss=0.12, invent=0.01, misjudge=0.1, hard=0.1),
}


@dataclass(frozen=True)
class Row:
    """One policy; shares are 0..1."""

    agreement: AttributeAgreement
    right_by_attributes: float
    right_by_verdicts: float
    labelled_by_attributes: float
    labelled_by_verdicts: float


def scenes(count: int) -> dict[str, list[str]]:
    """What drawn scenes show, by a name each."""
    drawn = (draw_scene(seed, split="heldout", size=(96, 96)) for seed in range(count))
    return {f"scene-{seed:05d}": [item.kind for item in scene.objects] for seed, scene in enumerate(drawn)}


def study(truth: Mapping[str, Collection[str]], people: People) -> list[Row]:
    """A row per policy of the drawn world."""
    verdicts, attributes = opinions(people, WORLD, truth, PEOPLE)
    matrix = labels(list(truth), WORLD, verdicts, {})
    seen = confirmed(attributes, VOCABULARY)
    rows = []
    for policy, found in zip(WORLD, attribute_agreement(matrix, WORLD, seen, {}), strict=True):
        real = {image_id: WORLD.derive(policy, shown).verdict for image_id, shown in truth.items()}
        by_people = {x.image_id: x.verdict for x in matrix if x.policy_id == policy.id and x.verdict}
        derived = {image_id: WORLD.derive(policy, shown).verdict for image_id, shown in seen.items()}
        by_rules = {image_id: verdict for image_id, verdict in derived.items() if verdict != "undetermined"}
        rows.append(
            Row(
                found,
                sum(real[i] == v for i, v in by_rules.items()) / len(by_rules),
                sum(real[i] == v for i, v in by_people.items()) / len(by_people),
                len(by_rules) / len(truth),
                len(by_people) / len(truth),
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--svg", type=Path, help="where to draw the figure")
    args = parser.parse_args()
    truth = scenes(args.scenes)
    print("| people | policy | compared | agree | 95 % | missed | invented | right: attributes, verdicts | labelled |")  # noqa: T201
    print("|---|---|---:|---:|---|---:|---:|---|---|")  # noqa: T201
    series = {}
    for name, people in CROWDS.items():
        rows = study(truth, people)
        series[name] = [plots.Estimate(r.agreement.share, r.agreement.low, r.agreement.high) for r in rows]
        for row in rows:
            a = row.agreement
            print(  # noqa: T201
                f"| {name} | {a.policy_id} | {a.compared} | {a.share:.3f} | {a.low:.3f} to {a.high:.3f} | {a.missed} | "
                f"{a.invented} | {row.right_by_attributes:.3f}, {row.right_by_verdicts:.3f} | "
                f"{row.labelled_by_attributes:.2f}, {row.labelled_by_verdicts:.2f} |"
            )
    if args.svg:
        title = "Labels by attributes that agree with people's verdicts"
        drawing = str(
            plots.bars(
                [p.id for p in WORLD],
                series,
                title=title,
                unit="share of labels, 95 % interval",
                limits=(0, 1),
                decimals=3,
            )
        )
        args.svg.write_text(drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1), encoding="utf-8")


if __name__ == "__main__":
    main()
