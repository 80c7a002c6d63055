"""`guardset policy check`."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter

from flows.cli.console import console
from flows.cli.tables import TextTable
from policies.checking import differences, rule_sentence, wording_faults
from policies.engine import Policy
from policies.loading import load_policy_set
from storage.validation import printable

policy_app = App(name="policy", help="Look after policies: what each rule means, and where two policies differ.")


@policy_app.command
def check(
    folder: Annotated[str | None, Parameter(help="A folder of policies; default: the shipped pack `paper`.")] = None,
    *,
    between: Annotated[
        tuple[str, str] | None, Parameter(help="Compare these two policies only, by their ids.", negative=())
    ] = None,
    max_rows: Annotated[int, Parameter(help="How many rows of the table of differences to print.")] = 40,
) -> int:
    """Say what each rule means, where policies differ, and what is wrong; the exit status is 1 if anything is.

    Files that do not load, rules that can never apply and rules that contradict each other stop it with a sentence, as
    they stop a build. A text that names other things than its rule's condition is listed.

    Example: `guardset policy check my-policies --between L2 L4`
    """
    policies = load_policy_set(folder)
    vocabulary = policies.vocabulary
    chosen: Sequence[Policy] = policies
    if between is not None:
        chosen = [policies.by_id(name) for name in between]
    for policy in chosen:
        scope = (
            "closed: what no rule forbids is safe" if policy.closed else "open: what no rule forbids is undetermined"
        )
        _say(f"{policy.id} {policy.name} ({scope})")
        for rule in policy.rules:
            _say(f"  {rule.id} {rule_sentence(rule, vocabulary)}")
        if policy.asks_nothing:
            _say("  Every image is safe, so nobody is asked about it.")
    rows = differences(policies, chosen)
    if rows:
        shown = [[words, *(derived.verdict for derived in found)] for words, found in rows[:max_rows]]
        title = f"Where they differ, if the image shows ({len(shown)} of {len(rows)})"
        console.print(TextTable(title, ["", *(policy.id for policy in chosen)], shown, text_columns=1 + len(chosen)))
    faults = [f"{policy.id}: {fault}" for policy in chosen for fault in wording_faults(policy, vocabulary)]
    for fault in faults:
        _say(fault)
    _say(f"{len(chosen)} policies, {len(vocabulary)} attributes: {len(faults) or 'no'} faults found.")
    return int(bool(faults))


def _say(line: str) -> None:
    console.print(printable(line), highlight=False, soft_wrap=True, markup=False)
