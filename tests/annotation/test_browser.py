"""Two people label through the real page in Chromium; what they chose must arrive in the matrix unchanged.

GUARDSET_SCREENSHOTS names a folder for pictures of the pages, to be looked at after a change of a page.
"""

import os
import shutil
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
VERDICTS = ("safe", "unsafe", "unsure")
# Whatever lies below the fold: the page must not need more than one scroll, and here it needs none.
HIDDEN = """() => [...document.querySelectorAll('.gs-policy, .gs-image, .gs-row')]
    .filter(e => e.getBoundingClientRect().bottom > window.innerHeight).length"""


def plan(name, number):
    """What a person says about the n-th image, policy by policy: one of `VERDICTS` each, all of them in turn."""
    return [VERDICTS[(number + policy + (name == "ben" and number == 3)) % 3] for policy in range(5)]


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


def answer(page, verdicts, by_keys):
    """Choose the verdicts by hotkeys or by clicks, and the first rule wherever rules are asked for."""
    rows = page.locator(".gs-policy")
    for number, verdict in enumerate(verdicts):
        if by_keys:
            page.keyboard.press(COLUMNS[number][VERDICTS.index(verdict)])
        else:
            rows.nth(number).locator(f"input[name={verdict}]").click()
        playwright.expect(rows.nth(number).locator(f"input[name={verdict}]")).to_be_checked()
        if verdict == "unsafe" and number > 0:  # the first policy has no rules
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
            assert all(bool(v.rules) == (v.verdict == "unsafe" and v.policy_id != "L1") for v in mine)
    matrix = labels(shown[:1], own_policies, votes, {})
    assert [(x.votes_safe, x.votes_unsafe, x.votes_unsure) for x in matrix] == [
        tuple(2 * (plan("ann", 0)[policy] == verdict) for verdict in VERDICTS) for policy in range(5)
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
            for safe, *_ in COLUMNS:
                page.keyboard.press(safe)
            with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as saved:
                page.keyboard.press("Control+Enter")
            assert saved.value.status == 201
            page.wait_for_load_state("networkidle")
    votes = collect(studio.client, studio.workspace, own_policies).votes
    mine = {item.image_id for item in items}
    assert [v.verdict for v in votes if v.image_id in mine] == ["safe"] * 50


def test_the_page_opens_with_a_draft_where_there_is_one_and_a_person_may_change_it(studio, own_policies):
    blind, drafted = large_images(studio.workspace, 2)
    drafted = replace(drafted, draft=("blade",))
    project_id = (
        publish(studio.client, studio.workspace, [blind, drafted], own_policies, OPTIONS).projects[0].project_id
    )
    derived = {policy.id: WORLD.derive(policy, drafted.draft).verdict for policy in own_policies}
    with labelling(studio, "ann", project_id) as page:
        rows = page.locator(".gs-policy")
        rows.last.wait_for()
        playwright.expect(rows.locator(".ant-radio-checked")).to_have_count(0)
        answer(page, ["unsure"] * 5, by_keys=True)
        save(page)
        picture(page, "draft")
        for number, policy in enumerate(own_policies):
            # not `checked`: radio buttons of one name in several rows take that from each other
            chosen = rows.nth(number).locator(f".ant-radio-checked input[name={derived[policy.id]}]")
            playwright.expect(chosen).to_have_count(1)
        page.keyboard.press(COLUMNS[1][VERDICTS.index("safe")])
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
    assert sent.cells == 5  # all in dispute: as full as the page can be
    with labelling(studio, "ann", sent.project_id) as page:
        assert page.get_by_text("The blade is drawn.").count() == 5
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
