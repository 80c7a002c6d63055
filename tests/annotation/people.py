"""Images to publish and people to label them, for the tests against a real Label Studio."""

import hashlib
import io

from PIL import Image

from annotation.client import connect
from annotation.publish import PublishItem
from annotation.verdicts import PolicyVerdict, to_result
from micro.scenes import draw_scene, scene_size
from micro.simulate import token_of

TRUTHS = (("blade",), ("blade", "museum_label"), ("heart",), ("plant",), ("dice", "syringe"))


def some_images(workspace, count):
    """Published items with real blobs, and what they show."""
    items, truth = [], {}
    for number in range(count):
        data = io.BytesIO()
        Image.new("RGB", (64, 48), (number % 250, number // 250, 200)).save(data, "PNG")
        blob = workspace.blobs.put(data.getvalue())
        items.append(PublishItem(hashlib.sha256(blob.encode()).hexdigest(), blob, str(number // 2)))
        truth[items[-1].image_id] = TRUTHS[number % len(TRUTHS)]
    return items, truth


def large_images(workspace, count):
    """Published items the size of photographs: drawn objects on a photograph, as in the demo."""
    items = []
    for seed in range(count):
        data, scene = io.BytesIO(), draw_scene(seed, split="heldout", size=scene_size(seed))
        Image.fromarray(scene.image).resize((1024, 768)).save(data, "JPEG")
        blob = workspace.blobs.put(data.getvalue())
        items.append(PublishItem(hashlib.sha256(blob.encode()).hexdigest(), blob))
    return items


def person(studio, name):
    """A client of a user of that name, who is signed up when new."""
    return connect(studio.server.url, token_of(studio.server, f"{name}@simulated.invalid"))


def verdicts(policies, said="safe", comment="", **others):
    """A result: `said` under every policy that is asked, but what `others` says by id; the first rule if unsafe."""
    answers = []
    for policy in policies:
        if policy.asks_nothing:
            continue
        verdict = others.get(policy.id, said)
        answers.append(PolicyVerdict(policy.id, verdict, policy.rule_ids()[:1] if verdict == "unsafe" else ()))
    return to_result(answers, comment)


def label(client, task_id, result, lead_time=9.5):
    """One annotation, as the page saves it."""
    return client.annotations.create(id=task_id, result=result, was_cancelled=False, lead_time=lead_time).id


def pair_answers(shows, damaged, realistic):
    """A result of the pair page."""
    given = {"shows": shows, "damaged": damaged, "realistic": realistic}
    return [
        {"from_name": name, "to_name": "left", "type": "choices", "value": {"choices": [answer]}}
        for name, answer in given.items()
    ]
