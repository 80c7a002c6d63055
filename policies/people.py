"""Words for people and their bodies: who is under age or may be, what no insertion draws, and what one may."""

import re
from collections.abc import Iterable

MINORS = frozenset(
    "youth youths schoolkid schoolkids tween tweens sons daughters grandsons granddaughters grandchild "
    "grandchildren kindergartner kindergartners child children childs kid kids boy boys girl girls toddler "
    "toddlers baby babies infant infants newborn newborns teen teens teenager teenagers teenage minor minors "
    "youngster youngsters schoolboy schoolboys schoolgirl schoolgirls schoolchild schoolchildren preteen preteens "
    "adolescent adolescents underage juvenile juveniles son daughter grandson granddaughter pupil pupils "
    "preschooler preschoolers".split()
)
OF_ANY_AGE = frozenset(
    "person persons people human humans crowd crowds family families face faces student students patient patients "
    "pedestrian pedestrians dancer dancers ballerina ballerinas protester protesters couple couples audience "
    "portrait portraits selfie selfies young lad lads lass lasses brother brothers sister sisters sibling "
    "siblings niece nieces nephew nephews".split()
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

DRAWABLE = frozenset(
    "ammunition arrow axe banknote baton beer blade bomb bong bottle bow box bullet can candle card cards "
    "cartridge chip chips cigar cigarette cocktail coin crossbow cup dagger deck dice die drink drum explosive "
    "firearm flag flame glass grenade gun handgun hookah joint knife label landmine leaf lighter liquor machete "
    "machine medicine money mug pack pair pile pill pills pipe pistol powder revolver rifle roulette shotgun sign "
    "spear stack sword syringe tablet taser torch vape vodka whiskey whisky wine".split()
)
"""Harmless objects and what they come in: an insertion draws what these words name, and nothing else. No list of what
must not be drawn could be whole."""


def is_drawable(noun: str) -> bool:
    """Whether a noun names a harmless object, in all its parts: `bottle of liquor`, but no `severed head`."""
    parts = (part.split() for part in noun.casefold().split(" of "))
    return all(part and part[-1] in DRAWABLE for part in parts)


def named_in(phrases: Iterable[str], words: frozenset[str]) -> str:
    """The first of these words (in lower case) that a phrase holds; "" where none does."""
    held = (word for phrase in phrases for word in re.findall(r"[^\W\d_]+", phrase.casefold()))
    return next((word for word in held if word in words), "")
