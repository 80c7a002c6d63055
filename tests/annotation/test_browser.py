"""Two people label through the real page in Chromium; what they chose must arrive in the matrix unchanged.

GUARDSET_SCREENSHOTS names a folder for pictures of the pages, to be looked at after a change of a page.
"""

import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from annotation.adjudicate import disputed, publish_adjudications
from annotation.agreement import labels
from annotation.attributes import attribute_votes, collect_attributes, publish_attributes
from annotation.collect import collect
from annotation.pair import PairItem, collect_pairs, edited_side, publish_pairs
from annotation.publish import publish, published
from annotation.tasks import ProjectOptions
from micro.simulate import password_of
from micro.world import WORLD
from policies.engine import Policy, PolicySet, Rule
from policies.vocabulary import Vocabulary
from storage.records.ids import content_id
from tests.annotation.people import label, large_images, person, verdicts

playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
CHROMIUM = os.environ.get("GUARDSET_CHROMIUM", shutil.which("chromium") or "")

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed; GUARDSET_CHROMIUM names another place"),
]

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
OPTIONS = ProjectOptions("browser")
SIZES = {"ann": (1366, 768), "ben": (1920, 1080)}
COLUMNS = ("1qa", "2ws", "3ed", "4tf", "5yg")  # the keys of safe, unsafe, unsure per policy
ASKED = 4  # of the drawn world's five policies, one calls every image safe and is not asked
VERDICTS = ("safe", "unsafe", "unsure")
# Whatever lies below the fold: the page must not need more than one scroll, and here it needs none.
HIDDEN = """() => [...document.querySelectorAll('.gs-policy, .gs-image, .gs-row')]
    .filter(e => e.getBoundingClientRect().bottom > window.innerHeight).length"""


def plan(name, number):
    """What a person says about the n-th image, policy by policy: one of `VERDICTS` each, all of them in turn."""
    return [VERDICTS[(number + policy + (name == "ben" and number == 3)) % 3] for policy in range(ASKED)]


def sign_in(page, studio, name):
    email = f"{name}@simulated.invalid"
    page.goto(f"{studio.server.url}/user/login/")
    page.fill("input[name=email]", email)
    page.fill("input[name=password]", password_of(studio.server, email))
    page.press("input[name=password]", "Enter")
    page.wait_for_load_state("networkidle")


@contextmanager
def labelling(studio, name, project_id):
    """The page on which a person labels, the instructions closed."""
    person(studio, name)  # signed up
    width, height = SIZES[name]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport={"width": width, "height": height}).new_page()
        sign_in(page, studio, name)
        page.goto(f"{studio.server.url}/projects/{project_id}/data?labeling=1")
        page.locator(".gs-image img").first.wait_for()
        picture(page, "instructions")
        page.keyboard.press("Escape")
        yield page
        browser.close()


def blurs(page):
    """The filters of the pictures on the page, each once."""
    filters = "pictures => [...new Set(pictures.map(one => getComputedStyle(one).filter))]"
    return page.locator(".gs-image img").evaluate_all(filters)


def picture(page, name):
    if folder := os.environ.get("GUARDSET_SCREENSHOTS"):
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(700)  # the page fades its pictures in
        page.screenshot(path=Path(folder) / f"{name}-{page.viewport_size['width']}.png")


def fits_every_screen(page, name):
    """Leaves the page at the size that it had."""
    for width, height in reversed(SIZES.values()):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(200)
        assert page.evaluate(HIDDEN) == 0
        picture(page, name)


def save(page):
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as saved:
        page.get_by_test_id("bottombar-submit-button").click()
    assert saved.value.status == 201
    page.wait_for_load_state("networkidle")


def dismiss(page):
    """Close what stands before the page. One that still fades in takes no key."""
    before = page.locator(".ant-modal-wrap:visible")
    while before.count():
        page.keyboard.press("Escape")
        page.wait_for_timeout(200)


def answer(page, verdicts, by_keys):
    """Choose the verdicts by hotkeys or by clicks, and the first rule wherever rules are asked for."""
    rows = page.locator(".gs-policy")
    for number, verdict in enumerate(verdicts):
        if by_keys:
            page.keyboard.press(COLUMNS[number][VERDICTS.index(verdict)])
        else:
            rows.nth(number).locator(f"input[name={verdict}]").click()
        playwright.expect(rows.nth(number).locator(f"input[name={verdict}]")).to_be_checked()
        if verdict == "unsafe":
            rows.nth(number).locator("input[name=R1]").click()


def test_what_two_people_choose_on_the_page_arrives_unchanged(studio, own_policies):
    items = large_images(studio.workspace, 4)
    project_id = publish(studio.client, studio.workspace, items, own_policies, OPTIONS).projects[0].project_id
    tasks = published(studio.workspace, own_policies).tasks
    shown = sorted(tasks, key=lambda image_id: tasks[image_id])  # the queue goes by task id
    for name in SIZES:
        with labelling(studio, name, project_id) as page:
            for number in range(4):
                page.locator(".gs-policy").last.wait_for()
                assert page.evaluate(HIDDEN) == 0
                if number == 0:
                    picture(page, "verdicts-blurred")
                answer(page, plan(name, number), by_keys=(number % 2 == 0) == (name == "ann"))
                if number == 1:
                    page.keyboard.press("b")
                    picture(page, "verdicts-answered")
                save(page)

    votes = collect(studio.client, studio.workspace, own_policies).votes
    for name in SIZES:
        for number, image_id in enumerate(shown):
            mine = [v for v in votes if v.annotator.startswith(name) and v.image_id == image_id]
            assert [v.verdict for v in sorted(mine, key=lambda v: v.policy_id)] == plan(name, number)
            assert all(bool(v.rules) == (v.verdict == "unsafe") for v in mine)
    matrix = labels(shown[:1], own_policies, votes, {})
    assert [(x.votes_safe, x.votes_unsafe, x.votes_unsure) for x in matrix] == [
        (0, 0, 0),  # L1 was not asked
        *(tuple(2 * (plan("ann", 0)[policy] == verdict) for verdict in VERDICTS) for policy in range(ASKED)),
    ]


def test_every_picture_starts_blurred_under_a_resting_pointer_and_a_key_shows_it(studio, own_policies):
    """By keys alone, to the last task."""
    items = large_images(studio.workspace, 10)
    project_id = publish(studio.client, studio.workspace, items, own_policies, OPTIONS).projects[0].project_id
    with labelling(studio, "ann", project_id) as page:
        place = page.locator(".gs-image").bounding_box()
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        for number in range(10):
            playwright.expect(page.locator(".gs-show .ant-checkbox-checked")).to_have_count(0)  # the next task is there
            page.locator(".gs-image img").first.wait_for()
            assert blurs(page) == ["blur(24px)"]
            page.keyboard.press("b")
            playwright.expect(page.locator(".gs-show .ant-checkbox-checked")).to_have_count(1)
            assert blurs(page) == ["none"]
            if number == 0:
                picture(page, "shown")
            for safe, *_ in COLUMNS[:ASKED]:
                page.keyboard.press(safe)
            with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as saved:
                page.keyboard.press("Control+Enter")
            assert saved.value.status == 201
            page.wait_for_load_state("networkidle")
    votes = collect(studio.client, studio.workspace, own_policies).votes
    mine = {item.image_id for item in items}
    assert [v.verdict for v in votes if v.image_id in mine] == ["safe"] * 10 * ASKED


def test_after_a_comment_the_keys_live_again(studio, own_policies):
    (item,) = large_images(studio.workspace, 1)
    project_id = publish(studio.client, studio.workspace, [item], own_policies, OPTIONS).projects[0].project_id
    with labelling(studio, "ann", project_id) as page:
        page.get_by_placeholder("Comment").click()
        page.keyboard.type("1 2 3: a drawing")
        page.keyboard.press("Enter")
        answer(page, ["safe"] * ASKED, by_keys=True)
        save(page)
    votes = collect(studio.client, studio.workspace, own_policies).votes
    assert {(v.verdict, v.comment) for v in votes if v.image_id == item.image_id} == {("safe", "1 2 3: a drawing")}


def test_a_project_opens_on_its_tasks_though_votes_were_collected_before_anybodys_visit(studio, own_policies):
    items = large_images(studio.workspace, 2)
    project_id = publish(studio.client, studio.workspace, items, own_policies, OPTIONS).projects[0].project_id
    collect(studio.client, studio.workspace, own_policies)
    collect(studio.client, studio.workspace, own_policies, reconcile_every=0)  # only what changed
    person(studio, "ann")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
        sign_in(page, studio, "ann")
        page.goto(f"{studio.server.url}/projects/{project_id}/data")
        page.locator(".dm-table__row-wrapper, .dm-table__row, [class*=table__row]").first.wait_for()
        picture(page, "tasks")
        assert page.get_by_text("No tasks found").count() == 0
        assert page.get_by_text("guardset collect").count() == 0
        browser.close()


def shops() -> PolicySet:
    """Five policies of thirty rules."""

    words = "is unsafe, unless a card beside it says that it belongs to a museum or a lesson."

    def rules(thing: str) -> tuple[Rule, ...]:
        texts = [f"A {thing} of kind {number} {words}" for number in range(1, 31)]
        return tuple(Rule(id=f"R{n}", text=text, unsafe_when=("blade",)) for n, text in enumerate(texts, 1))

    things = ("knife", "sword", "dart", "hatchet", "arrow")
    some = (
        Policy(id=f"P{n}", name=f"Shop {n}", setting="A shop.", preamble="What hurts is unsafe.", rules=rules(thing))
        for n, thing in enumerate(things)
    )
    return PolicySet(WORLD.vocabulary, tuple(some))


def test_five_policies_of_thirty_rules_stay_on_one_screen_and_are_searched_by_keys(studio):
    (item,), policies = large_images(studio.workspace, 1), shops()
    project_id = publish(studio.client, studio.workspace, [item], policies, OPTIONS).projects[0].project_id
    with labelling(studio, "ann", project_id) as page:
        assert page.evaluate(HIDDEN) == 0
        page.keyboard.press("6")  # reads the first policy
        playwright.expect(page.get_by_role("heading", name="R30. A knife of kind 30")).to_be_visible()
        page.keyboard.press("6")
        for _, unsafe, _ in COLUMNS[:2]:
            page.keyboard.press(unsafe)
        for safe, *_ in COLUMNS[2:]:
            page.keyboard.press(safe)
        page.keyboard.press("u")  # searches the first, then the second
        for kind in ("27", "13"):
            page.keyboard.type(f"kind {kind} ")
            page.keyboard.press("Enter")
            picture(page, f"searched-{kind}")
            page.keyboard.press("Tab")
            page.keyboard.press("Tab")
        assert page.evaluate(HIDDEN) == 0  # the verdicts
        with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as saved:
            page.keyboard.press("Control+Enter")
        assert saved.value.status == 201
    votes = {v.policy_id: (v.verdict, v.rules) for v in collect(studio.client, studio.workspace, policies).votes}
    assert votes == {
        "P0": ("unsafe", ("P0.R27",)), "P1": ("unsafe", ("P1.R13",)), "P2": ("safe", ()), "P3": ("safe", ()),
        "P4": ("safe", ()),
    }  # fmt: skip


@pytest.mark.parametrize("count", [20])
def test_two_people_label_by_keyboard_and_nothing_is_lost(studio, own_policies, count):
    """Keys and seconds a picture are printed: `pytest -s` shows them."""
    items = large_images(studio.workspace, count)
    project_id = publish(studio.client, studio.workspace, items, own_policies, OPTIONS).projects[0].project_id
    for name in SIZES:
        began, keys = time.monotonic(), 0
        with labelling(studio, name, project_id) as page:

            def press(key, page=page):
                nonlocal keys
                keys += 1
                page.keyboard.press(key)

            for number in range(count):
                playwright.expect(page.locator(".gs-page .ant-checkbox-checked")).to_have_count(0)  # the next task
                page.locator(".gs-image img").first.wait_for()
                press("b")
                playwright.expect(page.locator(".gs-show .ant-checkbox-checked")).to_have_count(1)
                rule_keys = iter("67890uiopjklzxcnm")
                for column, policy in zip(COLUMNS, (p for p in own_policies if p.rules), strict=False):
                    verdict = plan(name, number)[COLUMNS.index(column)]
                    press(column[VERDICTS.index(verdict)])
                    first, *_ = [next(rule_keys) for _ in policy.rules]
                    if verdict == "unsafe":
                        press(first)
                with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as saved:
                    press("Control+Enter")
                assert saved.value.status == 201
                page.wait_for_load_state("networkidle")
            seconds = time.monotonic() - began
        print(f"{name}: {keys / count:.1f} keys and {seconds / count:.1f} s a picture")  # noqa: T201
        assert keys / count <= 10
    votes = collect(studio.client, studio.workspace, own_policies).votes
    shown = {item.image_id for item in items}
    tasks = published(studio.workspace, own_policies).tasks
    order = sorted(shown, key=lambda image_id: tasks[image_id])
    given = {(v.annotator.split("@")[0], v.image_id, v.policy_id): v.verdict for v in votes if v.image_id in shown}
    expected = {
        (name, image_id, policy.id): verdict
        for name in SIZES
        for number, image_id in enumerate(order)
        for policy, verdict in zip((p for p in own_policies if p.rules), plan(name, number), strict=True)
    }
    assert given == expected


def test_the_page_opens_with_a_draft_where_there_is_one_and_a_person_may_change_it(studio, own_policies):
    blind, drafted = large_images(studio.workspace, 2)
    drafted = replace(drafted, draft=("blade",))
    project_id = (
        publish(studio.client, studio.workspace, [blind, drafted], own_policies, OPTIONS).projects[0].project_id
    )
    asked = [policy for policy in own_policies if policy.rules]
    derived = {policy.id: WORLD.derive(policy, drafted.draft).verdict for policy in asked}
    with labelling(studio, "ann", project_id) as page:
        rows = page.locator(".gs-policy")
        rows.last.wait_for()
        playwright.expect(rows.locator(".ant-radio-checked")).to_have_count(0)
        answer(page, ["unsure"] * ASKED, by_keys=True)
        save(page)
        picture(page, "draft")
        for number, policy in enumerate(asked):
            # not `checked`: radio buttons of one name in several rows take that from each other
            chosen = rows.nth(number).locator(f".ant-radio-checked input[name={derived[policy.id]}]")
            playwright.expect(chosen).to_have_count(1)
        # Label Studio lets a repeated key take an answer away: the page says so, and asks for what is missing.
        assert page.get_by_text("the same key twice takes an answer away").is_visible()
        page.keyboard.press(COLUMNS[1][VERDICTS.index(derived["L3"])])
        page.keyboard.press("Control+Enter")
        playwright.expect(page.get_by_text("L3: choose safe, unsafe or unsure.")).to_be_visible()
        dismiss(page)
        page.keyboard.press(COLUMNS[1][VERDICTS.index(derived["L3"])])
        page.keyboard.press(COLUMNS[0][VERDICTS.index("safe")])
        save(page)
    votes = collect(studio.client, studio.workspace, own_policies).votes
    assert {v.verdict for v in votes if v.image_id == blind.image_id} == {"unsure"}
    said = {v.policy_id: v.verdict for v in votes if v.image_id == drafted.image_id}
    assert derived["L2"] == "unsafe"
    assert said == {**derived, "L2": "safe"}


def test_a_pair_is_rated_by_keys(studio, policies):
    items = large_images(studio.workspace, 2)
    pair = PairItem("edit", items[0].blob, items[1].blob, "knife")
    project_id = publish_pairs(
        studio.client, studio.workspace, [pair], policies, ProjectOptions("browser", overlap=1)
    ).project_id
    with labelling(studio, "ann", project_id) as page:
        assert blurs(page) == ["blur(24px)"]
        page.keyboard.press("b")
        assert blurs(page) == ["none"]  # both pictures
        for key in ("1", "t", "d"):  # shows: left; damaged: neither; realistic: both
            page.keyboard.press(key)
        fits_every_screen(page, "pair")
        save(page)
    (rating,) = [r for r in collect_pairs(studio.client, studio.workspace).ratings if r.edit_id == pair.edit_id]
    at_left = edited_side(pair.edit_id) == "left"
    assert (rating.gone, rating.original_shows, rating.damaged, rating.realistic) == (
        not at_left, not at_left, False, True,
    )  # fmt: skip


def test_a_judge_sees_the_votes_without_scrolling(studio, own_policies):
    (item,) = large_images(studio.workspace, 1)
    publish(studio.client, studio.workspace, [item], own_policies, OPTIONS)
    task_id = published(studio.workspace, own_policies).tasks[item.image_id]
    for who, said in (("cid", "safe"), ("dee", "unsafe"), ("eve", "unsure")):
        label(person(studio, who), task_id, verdicts(own_policies, said, comment="The blade is drawn."))
    votes = collect(studio.client, studio.workspace, own_policies).votes
    matrix = labels([item.image_id], own_policies, votes, {})
    sent = publish_adjudications(studio.client, studio.workspace, own_policies, disputed(matrix), votes, OPTIONS)
    assert sent.cells == ASKED  # all in dispute: as full as the page can be
    with labelling(studio, "ann", sent.project_id) as page:
        assert page.get_by_text("The blade is drawn.").count() == ASKED
        fits_every_screen(page, "judge")


def test_what_is_ticked_on_the_attribute_page_arrives(studio, own_policies):
    """The list stands in the order of the task, what a model proposes first and unticked; the ids come back."""
    (item,) = large_images(studio.workspace, 1)
    noun = f"knife {content_id(own_policies[0].setting)[:6]}"  # a vocabulary, and so a project, of its own
    words = tuple(a.model_copy(update={"noun": noun}) if a.id == "blade" else a for a in WORLD.vocabulary.values())
    policies = replace(own_policies, vocabulary=Vocabulary(words))
    project = publish_attributes(
        studio.client, studio.workspace, [item], policies, {item.image_id: ("heart", "dice")}, OPTIONS
    ).projects[-1]
    with labelling(studio, "ann", project.project_id) as page:
        rows = page.locator(".gs-policy")
        rows.last.wait_for()
        names = rows.first.locator("input[type=checkbox]").evaluate_all("boxes => boxes.map(box => box.name)")
        assert names[:3] == ["die", "heart", noun]
        playwright.expect(rows.locator(".ant-checkbox-checked")).to_have_count(0)
        rows.nth(0).locator(f"input[name='{noun}']").click()
        rows.nth(0).locator("input[name=heart]").click()
        rows.nth(1).locator("input[name=cup]").click()
        page.keyboard.press("0")
        fits_every_screen(page, "attributes")
        save(page)
    collect_attributes(studio.client, studio.workspace, policies.vocabulary)
    said = {vote.policy_id: vote.verdict for vote in attribute_votes(studio.workspace, policies.vocabulary)}
    assert said.keys() == policies.vocabulary.keys()
    assert {name: said[name] for name in said if said[name] != "safe"} == {
        "blade": "unsafe", "heart": "unsafe", "cup": "unsure",
    }  # fmt: skip
