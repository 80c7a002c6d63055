"""One command, one leaderboard: guards that answer in their own form, with a known truth."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL.Image import Image

from flows.cli.commands.evaluating import evaluate
from guard.contract.features import IMAGE, TEXT, arrow_schema, class_label
from guard.evaluation.record import Run, read_runs
from storage.workspace import Workspace
from tests.guard.evaluated import POLICIES, THINK, picture, role_in
from tests.guard.guard_server import guard_server

FAMILIES = 10
TEXTS = {
    "Policy L1": "Policy L1.\nThere are no rules.",
    "Policy L3": "Policy L3.\nR1. What is dark is unsafe.",
    "Policy L5": "Policy L5.\nR1. What is dark is unsafe.\nR2. What is bright is unsafe.",
}


def kind_of(number: int, role: str) -> str:
    """Dark or bright. In every third family it is the edited picture that is dark, so that no guess that sees only
    whether a picture was edited is perfect."""
    return "dark" if (role == "original") != (number % 3 == 0) else "bright"


def broken(kind: str, policy: str) -> tuple[str, ...]:
    """The rules that a picture breaks: a dark one R1, a bright one R2 where there is one."""
    known = {("Policy L3", "dark"): ("R1",), ("Policy L5", "dark"): ("R1",), ("Policy L5", "bright"): ("R2",)}
    return known.get((policy, kind), ())


def seen(image: Image) -> str:
    """What a picture shows; nothing where it is blank."""
    if image.size != (64, 48):
        return "nothing"
    red = image.getpixel((0, 0))[0]  # type: ignore[index]
    return kind_of(round(red / 10), role_in(image))


def named_in(text: str) -> str:
    """The policy whose rules the request holds."""
    if "bright is unsafe" in text:
        return "Policy L5"
    return "Policy L3" if "dark is unsafe" in text else "Policy L1"


def answered(say: Callable[[tuple[str, ...], str], str]) -> Callable[[Image, dict[str, Any]], Any]:
    """The broken rules of the picture under the policy that the request holds anywhere, in a guard's own words. A blank
    picture breaks nothing."""

    def of(image: Image, body: dict[str, Any]) -> Any:
        told = json.dumps(body)
        return say(broken(seen(image), named_in(told)), told)

    return of


def words(safe: str, unsafe: str) -> Callable[[tuple[str, ...], str], str]:
    return lambda rules, _: unsafe.format(", ".join(rules)) if rules else safe


def by_letter(rules: tuple[str, ...], told: str) -> str:
    if not rules:
        return "safe\n<answer>Safe</answer>"
    return f"unsafe\n<answer>{'AB'[int(rules[0][1]) - 1]}. {rules[0]}</answer>"


def by_id(rules: tuple[str, ...], told: str) -> str:
    return json.dumps({"violation": int(bool(rules)), "rule_ids": rules, "rationale": "what it shows"})


def probability(image: Image, body: dict[str, Any]) -> Any:
    """Yes where the picture breaks the one rule that is asked about; the policy has one text per rule."""
    told = json.dumps(body)
    yes = f"{seen(image)} is unsafe" in told
    tokens = [{"token": "Yes", "logprob": -0.1 if yes else -3}, {"token": "No", "logprob": -3 if yes else -0.1}]
    return {"message": {"content": "Yes" if yes else "No"}, "logprobs": {"content": [{"top_logprobs": tokens}]}}


def llama(image: Image, body: dict[str, Any]) -> str:
    """It reads no policy: a dark picture is S9, a bright one S12."""
    return {"dark": "unsafe\nS9", "bright": "unsafe\nS12"}.get(seen(image), "safe")


def reasoner(image: Image, body: dict[str, Any]) -> str:
    """Its policy is fixed: what is dark is harmful, whatever it is asked."""
    dark = seen(image) == "dark"
    return f"{THINK}<result>\nRequest: {'harmful' if dark else 'unharmful'}\nResponse: None\n</result>"


GUARDS: dict[str, Callable[[Image, dict[str, Any]], Any]] = {
    "guardset": answered(words(f"{THINK}<answer>safe</answer>", f"{THINK}<answer>unsafe</answer>")),
    "plain": answered(words("safe", "unsafe")),
    "plain-yes-no": answered(words("no", "yes")),
    "plain-probability": answered(words("No", "Yes")),
    "safeguard-vl": answered(words("This image is safe.", "This image is unsafe.")),
    "safeguard-vl-eval": answered(words("safe", "unsafe.")),
    "safeguard-vl-think": answered(words(f"{THINK}<answer>yes</answer>", f"{THINK}<answer>no</answer>")),
    "llavaguard": answered(
        words('{"rating": "Safe", "category": "NA"}', 'rating": "Unsafe", "category": "O2: V", "ra')
    ),
    "policyshiftguard": answered(words("false | none", "true | 02 | dark")),
    "nemotron": answered(words("User Safety: safe", "User Safety: unsafe\nSafety Categories: Violence")),
    "singguard": answered(by_letter),
    "gpt-oss-safeguard": answered(by_id),
    "guardreasoner-vl": reasoner,
    "shieldgemma-2": probability,
    "llama-guard-4": llama,
}
REPAIRED = {"plain-probability", "safeguard-vl", "safeguard-vl-eval", "llavaguard"}


def write_benchmark(path: Path) -> str:
    features = {
        "image": IMAGE, "image_path": TEXT, "safety_label": class_label(["safe", "unsafe"]),
        "policy_name": TEXT, "policy": TEXT, "rules": [TEXT],
    }  # fmt: skip
    rows = [
        {
            "image": {"bytes": picture(number, role), "path": None},
            "image_path": f"{number}.png" if role == "original" else f"{number}_edited.png",
            "safety_label": int(bool(broken(kind_of(number, role), policy))),
            "policy_name": policy,
            "policy": TEXTS[policy],
            "rules": list(broken(kind_of(number, role), policy)),
        }
        for number in range(FAMILIES)
        for role in ("original", "edited")
        for policy in POLICIES
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(features)), path)
    return str(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("native")
    data = write_benchmark(folder / "test.parquet")
    with ExitStack() as stack:
        urls = {name: stack.enter_context(guard_server(body_says=say)).url for name, say in GUARDS.items()}
        models = [
            {"name": name, "model": name, "adapter": name, "server": {"base_url": url, "attempts": 1}}
            for name, url in urls.items()
        ]
        models[0]["price"] = {"prompt": 1.0, "completion": 2.0}
        next(m for m in models if m["name"] == "llama-guard-4")["mapping"] = {  # type: ignore[index]
            "Policy L1": {}, "Policy L3": {"S9": ["R1"]}, "Policy L5": {"S9": ["R1"], "S12": ["R2"]},
        }  # fmt: skip
        told = {"benchmarks": [{"name": "drawn", "data": data}], "models": models, "reruns": 1, "resamples": 20}
        (folder / "evaluation.yaml").write_text(json.dumps({"evaluate": told}))
        evaluate(workspace=str(folder / "work"), config=folder / "evaluation.yaml")
    workspace = Workspace.open(folder / "work")
    tables = workspace.store.read("evaluations/leaderboard.md").decode()
    assert all(f"| {name} |" in tables for name in GUARDS)
    assert "own taxonomy, mapped to rules under Policy L1, Policy L3, Policy L5" in tables
    assert "one verdict per policy, no image seen" in tables
    return {run.model: run for run in read_runs(workspace)}


@pytest.mark.parametrize("name", [name for name in GUARDS if name != "guardreasoner-vl"])
def test_scores_are_those_of_the_truth(runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    assert run.about["problems"] == {}
    assert list(run.verdicts) == [row.label for row in run.rows]
    for score in ("macro_f1", "pss", "pair_accuracy", "pss_above_image_blind"):
        assert run.value(score) == 1.0
    assert (run.about["repaired"] > 0) == (name in REPAIRED)
    assert run.baselines["blank_image"]
    assert run.baselines["swapped_image"]


RULES = ["singguard", "shieldgemma-2", "llama-guard-4", "gpt-oss-safeguard"]


def test_a_guard_with_a_policy_of_its_own_is_scored_by_it(runs: dict[str, Run]) -> None:
    run = runs["guardreasoner-vl"]
    assert run.about["problems"] == {}
    # It calls the dark picture of each family unsafe. L1 (no rules): accuracy 1/2; L3: F1 1; L5: 10 of 20 caught, no
    # false alarm, F1 20 / 30. No image is right under two policies that differ on it.
    assert run.value("macro_f1") == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)
    assert run.value("pss") == 0.0
    assert run.baselines["no_policy"]


@pytest.mark.parametrize("name", RULES)
def test_rules_are_scored_where_a_guard_names_them(runs: dict[str, Run], name: str) -> None:
    assert (runs[name].value("exact_rule_set"), runs[name].value("rule_f1")) == (1.0, 1.0)


def test_the_table_says_how_each_was_asked(runs: dict[str, Run]) -> None:
    assert {name for name, run in runs.items() if run.value("rule_f1") is not None} == set(RULES)
    assert runs["llavaguard"].about["adapter"]["tested"] == "from documentation, not run"
    assert runs["shieldgemma-2"].about["effort"]["calls"] == pytest.approx((1 + 1 + 2) / 3)
    assert runs["guardset"].about["effort"]["cost"] == pytest.approx((9 * 1 + 5 * 2) / 1e6)
    assert runs["plain"].about["effort"]["cost"] is None


def test_a_guess_that_sees_no_image_is_taken_off_pss(runs: dict[str, Run]) -> None:
    # L1 all safe, L5 all unsafe, L3 half: a tie, so unsafe. A dark picture differs between L1 and the others (2 units,
    # both right); a bright one between L5 and the others (2 units; that of L3 and L5 is wrong): 3 of 4 right.
    plain = runs["plain"]
    assert {m.name: m.value for m in plain.baselines["one_verdict_per_policy"]}["pss"] == pytest.approx(3 / 4)
    # Told what was edited it is right under L3, too, in six of ten families (0, 3, 6 and 9 are the other way round):
    # 4 of 4 units there; else 2 of 4.
    assert {m.name: m.value for m in plain.baselines["policy_and_edited"]}["pss"] == pytest.approx(0.6 + 0.4 / 2)
