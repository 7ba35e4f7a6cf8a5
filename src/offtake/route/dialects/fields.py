"""Read an object of JSON field by field, so that no field is passed over: what nobody took is refused by its name.

Comes in: an object of a request's body, and the dialect it is to be said in. Goes out: values of the asked kind, or a
``Refusal`` that names the field. A translation that reads through this can lose nothing unseen.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from offtake.route.dialects.asked import Refusal

T = TypeVar("T")
UNSAID = "not_translatable"
KINDS: dict[Any, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
}


def unsaid(where: str, dialect: str) -> Refusal:
    """Return why a request is refused that ``dialect`` has no words for."""
    message = f"`{where}` cannot be said in the {dialect} dialect, which the pools of this model speak."
    return Refusal(400, message, where, UNSAID)


def wrong(where: str, kind: str) -> Refusal:
    """Return why a request is refused in which a field is not of its kind."""
    return Refusal(400, f"`{where}` must be {kind}.", where)


class Fields:
    """Hold the fields of one object that nobody took yet; ``at`` is where it stands in the body."""

    __slots__ = ("at", "dialect", "left")

    def __init__(self, value: object, at: str, dialect: str) -> None:
        if not isinstance(value, dict):
            raise wrong(at or "body", "an object")
        self.left: dict[str, Any] = dict(value)
        self.at, self.dialect = at, dialect

    def where(self, name: str) -> str:
        """Return the name of a field as a client would write it."""
        return f"{self.at}.{name}" if self.at else name

    def unsaid(self, name: str) -> Refusal:
        """Return the refusal of a field."""
        return unsaid(self.where(name), self.dialect)

    def take(self, name: str, kind: type[T]) -> T | None:
        """Take a field of a kind; None if it is left out or null."""
        value = self.left.pop(name, None)
        if value is None:
            return None
        good = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            good = True
        if not good:
            raise wrong(self.where(name), KINDS[kind])
        return cast("T", value)  # it was looked at above

    def need(self, name: str, kind: type[T]) -> T:
        """Take a field that must be there."""
        value = self.take(name, kind)
        if value is None:
            raise wrong(self.where(name), KINDS[kind])
        return value

    def each(self, name: str) -> list[Fields]:
        """Take a list of objects."""
        found: list[Any] = self.take(name, list) or []
        return [Fields(one, f"{self.where(name)}[{index}]", self.dialect) for index, one in enumerate(found)]

    def part(self, name: str) -> Fields | None:
        """Take an object."""
        value = self.left.pop(name, None)
        return None if value is None else Fields(value, self.where(name), self.dialect)

    def only(self, name: str, *values: object) -> None:
        """Take a field that says nothing if it is left out, null or one of ``values``, and refuse it otherwise."""
        value = self.left.pop(name, None)
        if value is not None and not any(value == one and type(value) is type(one) for one in values):
            raise self.unsaid(name)

    def hint(self, dropped: set[str], *names: str) -> None:
        """Take fields that change no word of an answer, and remember that they were dropped."""
        dropped.update(name for name in names if self.left.pop(name, None) is not None)

    def done(self) -> None:
        """Refuse the first field that nobody took, unless it is null."""
        for name, value in self.left.items():
            if value is not None:
                raise self.unsaid(name)
