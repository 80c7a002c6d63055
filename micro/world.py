"""The vocabulary and the five policies of the drawn world, as a value."""

from micro import POLICIES
from policies.loading import load_policy_set

WORLD = load_policy_set(POLICIES)
VOCABULARY = WORLD.vocabulary
