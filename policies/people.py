"""Words for people and their bodies: who is under age or may be, and what no insertion draws."""

import re
from collections.abc import Iterable

MINORS = frozenset(
    "child children childs kid kids boy boys girl girls toddler toddlers baby babies infant infants newborn newborns "
    "teen teens teenager teenagers teenage minor minors youngster youngsters schoolboy schoolboys schoolgirl "
    "schoolgirls schoolchild schoolchildren preteen preteens adolescent adolescents underage juvenile juveniles son "
    "daughter grandson granddaughter pupil pupils preschooler preschoolers".split()
)
OF_ANY_AGE = frozenset(
    "person persons people human humans crowd crowds family families face faces student students patient patients "
    "pedestrian pedestrians dancer dancers ballerina ballerinas protester protesters couple couples audience "
    "portrait portraits selfie selfies".split()
)
"""Who may be a child, for all that the word says."""

_BODIES = frozenset(
    "man men woman women adult adults body bodies corpse corpses cadaver cadavers skeleton skeletons dead death "
    "nude nudes nudity naked topless bare breast breasts nipple nipples genital genitals genitalia penis vagina vulva "
    "buttock buttocks groin crotch sex sexual sexy erotic erotica porn pornography intercourse orgasm masturbation "
    "fetish bondage lingerie bra bras underwear panties negligee corset bikini bikinis swimsuit swimsuits kiss kissing "
    "embrace hug blood bloody bloodstain bloodstains gore wound wounds wounded injury injuries injured gash gashes "
    "laceration lacerations bruise bruises scar scars cut cuts amputation mutilation decapitation torture suicide "
    "harm fight fights brawl brawls militant militants gunman gunmen terrorist terrorists".split()
)
NEVER_DRAWN = MINORS | OF_ANY_AGE | _BODIES
"""Nudity, sexual content, injuries and people, whatever a vocabulary says of them."""


def named_in(phrases: Iterable[str], words: frozenset[str]) -> str:
    """The first of these words (in lower case) that a phrase holds; "" where none does."""
    held = (word for phrase in phrases for word in re.findall(r"[^\W\d_]+", phrase.casefold()))
    return next((word for word in held if word in words), "")
