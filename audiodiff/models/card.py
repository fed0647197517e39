"""Model cards: what they say in a form that programs read."""

import re


def licence_of(card: str) -> str | None:
    """Return the licence of the weights that a model card names, in its text or as a field, None where it names none.

    Example:
        >>> licence_of("The weights are passed on under the same terms, CC BY-SA 4.0."), licence_of("license: mit")
        ('CC BY-SA 4.0', 'mit')
    """
    found = re.search(r"weights are passed on under [^.]*?\b((?:CC0|CC BY\S*|MIT|Apache)(?: \d\.\d)?)", card)
    found = found or re.search(r"^(?:- )?licen[cs]e: *(\S.*)$", card, re.MULTILINE)
    return found and found.group(1)
