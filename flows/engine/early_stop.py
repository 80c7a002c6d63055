"""When a stage stops before its rows are spent: at the limit of the costs, and where a model answers nothing of use."""

from itertools import islice

from flows.engine.tally import Shard, Tally
from models.metering import Budget, CostLimitError
from storage.errors import FatalError
from storage.reasons import REASONS
from storage.shard import ShardOutcome, left_to_do
from storage.stage import ReadyStage
from storage.workspace import Workspace

_ENOUGH_ROWS = 8  # refused throughout are no chance
_OF_AN_ANSWER = ("locator_", "editor_", "caption_", "rewrite_", "chat_")  # codes of what a model answered


def check_affordable(workspace: Workspace, budget: Budget, stage: ReadyStage, shard: Shard, tally: Tally) -> None:
    """Stop before a shard that would probably not be finished: its half would be paid for nothing."""
    expected = tally.expected(shard.rows, budget)
    if budget.fits(expected) or not left_to_do(workspace, stage, shard.input_hash):
        return
    spent, left = budget.spent, tally.rows - tally.rows_done
    rest = tally.expected(left, budget)
    raise CostLimitError(
        f"{spent:.4g} of the limit of {budget.max_cost:g} is spent, and the next {shard.rows} rows of "
        f"{stage.name} would cost about {expected:.2g}, all {left} that are left {rest:.2g}. "
        "Raise --max-cost: what is finished is kept, not paid again.",
        at_least=spent + rest,
    )


def check_not_all_refused(
    workspace: Workspace, threads: int, stage: ReadyStage, outcome: ShardOutcome, tally: Tally
) -> None:
    """Stop a stage that asks a model where the first of its rows are all refused for one reason: hardly the rows'
    fault, and the others would fare alike. What a build before found out is believed."""
    refused = [code for code, count in outcome.rejected.items() if count == outcome.rows_in]
    is_first = not tally.rows_out and not tally.is_all_done and outcome.rows_in >= _ENOUGH_ROWS
    if stage.needs == "nothing" or not refused or not is_first or tally.looked_up or outcome.again:
        return
    (code,) = refused
    finished = islice(workspace.store.keys(f"tables/{stage.name}/"), threads + 1)
    if not code.startswith(_OF_AN_ANSWER) or sum(1 for _ in finished) > threads:
        return  # an earlier run had others
    detail = workspace.ledger.rejected(stage.name, outcome.fingerprint)[0].detail
    first = f" The first says: {detail}" if detail else ""
    raise FatalError(
        f"{stage.name} refused all of its first {outcome.rows_in} rows as {code}: {REASONS[code].measured}.{first} "
        f"To do: {REASONS[code].remedy}. The other rows wait. "
        f"Where the settings stay as they are, --retry-refused {code} asks for these again, and the same command "
        "goes on with the others."
    )
