"""pydantic's validation errors as sentences for the author of a pipeline file.

One message a place: where a value may be of several kinds, pydantic reports an error for
each kind; here they become "expected a whole number or 'auto', not 'many'".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, core_schema

from ..errors import nearest_name
from ..plugins.options import OptionSchema
from .document import Loc
from .union_errors import Place, settled

#: Least similarity of a key or choice that is suggested.
SIMILAR = 0.7
_MASK = "**********"
#: Errors whose text is pydantic's own; that of any other the author of the model wrote.
_PYDANTICS = set(get_args(core_schema.ErrorType)) - {"value_error", "assertion_error"}
_KINDS = {
    "string_type": "a text",
    "path_type": "a path",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "nothing",
    "string_too_short": "a longer text",
    "string_too_long": "a shorter text",
}
_LISTS = {kind for kind, words in _KINDS.items() if words == "a list"}
_NUMBERS = {"int_type": "integer", "int_from_float": "integer", "float_type": "number"}
_LIMITS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")


@dataclass(frozen=True)
class Finding:
    """One message, and the place it is about.

    Attributes:
        loc: keys and indices within the options.
        message: what was expected, and what was found.
        subject: the option the message is about, to be put before it; "" if the message names it.
        hint: what to do, or "".
        key: True if the key is at fault, not its value.
    """

    loc: Loc
    message: str
    hint: str = ""
    key: bool = False
    subject: str = ""


def findings(
    error: ValidationError,
    model: type[BaseModel],
    options: dict[str, Any],
    owner: str,
    is_variable: Callable[[Loc], bool] = lambda loc: False,
) -> list[Finding]:
    """What is wrong with some options, one message a place.

    Args:
        error: what pydantic raised.
        model: the model that refused them.
        options: the plain data that was refused.
        owner: whose options they are, such as "the backend 'sam'".
        is_variable: whether a value came from an environment variable; it is not repeated then.
    """
    writer = _Writer(OptionSchema(model), options, owner, is_variable)
    return [finding for place in settled(error, options) for finding in writer.of(place)]


class _Writer:
    """Turns the errors of a place into words."""

    def __init__(
        self, schema: OptionSchema, options: dict[str, Any], owner: str, is_variable: Callable[[Loc], bool]
    ) -> None:
        self._schema = schema
        self._secrets = sorted(set(schema.secrets(options)), key=len, reverse=True)
        self._owner = owner
        self._is_variable = is_variable

    def of(self, place: Place) -> Iterator[Finding]:
        extra = [str(error["loc"][-1]) for error in place.errors if error["type"] == "extra_forbidden"]
        missing = [error["loc"][-1] for error in place.errors if error["type"] == "missing"]
        known = self._schema.keys(place.loc)
        free = [name for name in known if name not in place.value] if extra else []
        nearest = {key: nearest_name(key, free, SIMILAR) or nearest_name(key, known, SIMILAR) for key in extra}
        meant = {key: close for key, close in nearest.items() if close}
        for key in extra:
            yield self._unknown(place, key, meant.get(key))
        if missing := [name for name in missing if name not in meant.values()]:
            yield self._missing(place, missing)
        if wrong := [error for error in place.errors if error["type"] not in ("extra_forbidden", "missing")]:
            yield self._wrong(place, wrong)

    def _unknown(self, place: Place, key: str, meant: str | None) -> Finding:
        known = self._schema.keys(place.loc)
        hint = f"did you mean {meant!r}?" if meant else f"there are: {', '.join(known)}" if known else ""
        if not known and any(self._schema.at(place.loc)):
            hint = "it has no options"
        who = self._who(place)
        text = f"{who} has no option {key!r}" if who else f"unknown key {key!r}"
        return Finding((*place.loc, key), text, hint, key=True)

    def _missing(self, place: Place, names: list[str | int]) -> Finding:
        if isinstance(place.value, list):
            text = f"expected {self._values(place)}, not {len(place.value)}"
            return Finding(place.loc, text, subject=_path(place.loc))
        listed = ", ".join(repr(name) for name in names)
        text = f"{self._who(place)} needs the option{'s' if len(names) > 1 else ''} {listed}"
        described = [(name, self._schema.description((*place.loc, name))) for name in names]
        return Finding(place.loc, text, "\n  ".join(f"{name}: {words}" for name, words in described if words))

    def _wrong(self, place: Place, errors: list[ErrorDetails]) -> Finding:
        written = [error for error in errors if error["type"] not in _PYDANTICS]
        if written:
            text = re.sub(r"^(Value error|Assertion failed), ", "", written[0]["msg"])
            for secret in self._secrets:
                text = text.replace(secret, _MASK)
            return Finding(place.loc, text, subject=_path(place.loc))
        expected = _either(list(dict.fromkeys(self._expected(place, error) for error in errors)))
        text = f"expected {expected}{self._found(place, errors)}"
        return Finding(place.loc, text, self._hint(place, errors), subject=_path(place.loc))

    def _who(self, place: Place) -> str:
        inside = _path(place.loc)
        return " of ".join(name for name in (inside and f"'{inside}'", self._owner) if name)

    def _expected(self, place: Place, error: ErrorDetails) -> str:
        kind, context = error["type"], error.get("ctx", {})
        if kind in ("literal_error", "enum"):
            return str(context["expected"])
        if kind in _NUMBERS or kind in _LIMITS:
            return self._number(place, _NUMBERS.get(kind), error)
        if kind in ("string_type", "string_pattern_mismatch"):
            return self._text(place, context.get("pattern", ""))
        if kind in ("tuple_type", "too_short", "too_long"):
            return self._values(place, context)
        if kind == "string_too_short" and context["min_length"] == 1:
            return "a text that is not empty"
        return _KINDS.get(kind) or re.sub(r"^(Input|String|Value) should (be |have )?", "", error["msg"])

    def _number(self, place: Place, kind: str | None, error: ErrorDetails) -> str:
        """A number with its range."""
        kinds = [kind] if kind else ["integer", "number"]
        schema = next((schema for schema in self._schema.at(place.loc) if schema.get("type") in kinds), {})
        words = "a whole number" if schema.get("type", kind) == "integer" else "a number"
        if not schema and error["type"] in _LIMITS:
            return re.sub(r"^Input should be ", "a number ", error["msg"])
        least, most = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if least is not None and most is not None:
            return f"{words} from {_plain_number(least)} to {_plain_number(most)}"
        limits = ((" of {} or more", least), (" above {}", above), (" of {} or less", most), (" below {}", below))
        return words + " and".join(text.format(_plain_number(at)) for text, at in limits if at is not None)

    def _text(self, place: Place, pattern: str) -> str:
        schemas = [schema for schema in self._schema.at(place.loc) if schema.get("type") == "string"]
        for schema in schemas:
            if examples := schema.get("examples"):
                return f"a text such as {_either([repr(example) for example in examples])}"
        if pattern:
            return f"a text of the form {pattern}"
        return "a path" if any("path" in schema.get("format", "") for schema in schemas) else "a text"

    def _values(self, place: Place, context: dict[str, Any] | None = None) -> str:
        for schema in self._schema.at(place.loc):
            least, most = schema.get("minItems"), schema.get("maxItems")
            if least is not None and least == most:
                return f"a list of {least} values"
        if not context or "actual_length" not in context:
            return "a list"
        least, most = context.get("min_length"), context.get("max_length")
        return f"at least {_entries(least)}" if least is not None else f"at most {_entries(most)}"

    def _found(self, place: Place, errors: list[ErrorDetails]) -> str:
        value = place.value
        if isinstance(value, list):
            counted = any("actual_length" in error.get("ctx", {}) for error in errors)
            return f", not {len(value)}" if counted else ", not a list"
        if isinstance(value, dict):
            return ", not a mapping"
        if value is None:
            return ", but there is no value"
        if self._is_variable(place.loc):
            return ", not the text of an environment variable"
        if self._schema.is_secret(place.loc):
            return ""
        single = "the single value " if all(error["type"] in _LISTS for error in errors) else ""
        return f", not {single}{found(value)}"

    def _hint(self, place: Place, errors: list[ErrorDetails]) -> str:
        if self._is_variable(place.loc) or self._schema.is_secret(place.loc):
            return ""
        kinds = {error["type"] for error in errors}
        value = place.value
        if kinds & {"literal_error", "enum"} and isinstance(value, str):
            choices = [choice for error in errors for choice in re.findall(r"'([^']*)'", self._expected(place, error))]
            close = nearest_name(value, choices, SIMILAR)
            return f"did you mean {close!r}?" if close else ""
        if "bool_type" in kinds and str(value).lower() in ("yes", "no", "on", "off", "y", "n"):
            return f"write {'true' if str(value).lower() in ('yes', 'on', 'y') else 'false'}"
        if kinds & set(_NUMBERS):
            return _number_hint(value, bool(kinds & {"int_type", "int_from_float"}))
        if "string_type" in kinds and isinstance(value, (int, float)):
            return f'put quotes around it: "{found(value)}"'
        if kinds <= _LISTS and value is not None:
            return (
                "begin each entry with '- '" if isinstance(value, dict) else f"write it in brackets: [{found(value)}]"
            )
        return ""


def found(value: Any) -> str:
    """A value as one writes it in YAML, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    text = f"'{value}'" if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 60 else text[:56] + "...'"


def _number_hint(value: Any, whole: bool) -> str:
    if isinstance(value, float) and whole and value.is_integer():
        return f"write {int(value)}"
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+" if whole else r"[-+]?\d+(\.\d+)?", value):
        return f"write {value} without quotes"
    return ""


def _plain_number(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _either(words: Sequence[str]) -> str:
    return " or ".join(words)


def _entries(count: int | None) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _path(loc: Loc) -> str:
    return ".".join(map(str, loc))
