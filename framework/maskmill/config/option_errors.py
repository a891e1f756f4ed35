"""Rewrites pydantic's validation errors as messages for the author of a pipeline file.

One message per value: where a value may have several types, pydantic reports an error for each
type; here they become "expected a whole number or 'auto', not 'many'".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, core_schema

from ..errors import nearest_name
from ..plugins.options import OptionSchema, join_or
from ..wording import count_noun
from .document import Loc
from .union_errors import ErrorSite, group_errors

#: Least similarity of a key or choice that is suggested.
SIMILAR = 0.7
_MASK = "**********"
#: Types of errors with pydantic's own text; the others have a text by the author of the model.
_PYDANTIC_TYPES = set(get_args(core_schema.ErrorType)) - {"value_error", "assertion_error"}
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
class OptionError:
    """One message about an option; its text begins with the option's name.

    Attributes:
        loc: keys and indices within the options.
        message: what was expected, and what was found.
        hint: what to do, or "".
        key: True if the key is wrong, not its value.
        subject: the option's name, "" if the message contains it.
    """

    loc: Loc
    message: str
    hint: str = ""
    key: bool = False
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" if self.subject else self.message


def explain_validation_error(
    error: ValidationError,
    model: type[BaseModel],
    options: dict[str, Any],
    owner: str,
    is_variable: Callable[[Loc], bool] = lambda loc: False,
) -> list[OptionError]:
    """What is wrong with some options, one message per value.

    Args:
        error: what pydantic raised.
        model: the model that rejected them.
        options: the plain data that was rejected.
        owner: what has these options, such as "the backend 'sam'".
        is_variable: whether a value came from an environment variable; such a value is not shown.
    """
    explainer = _Explainer(OptionSchema(model), options, owner, is_variable)
    return [each for site in group_errors(error, options) for each in explainer.explain(site)]


class _Explainer:
    """Writes the messages about one value."""

    def __init__(
        self, schema: OptionSchema, options: dict[str, Any], owner: str, is_variable: Callable[[Loc], bool]
    ) -> None:
        self._schema = schema
        self._secrets = sorted(set(schema.secrets(options)), key=len, reverse=True)
        self._owner = owner
        self._is_variable = is_variable

    def explain(self, site: ErrorSite) -> Iterator[OptionError]:
        extra = [str(error["loc"][-1]) for error in site.errors if error["type"] == "extra_forbidden"]
        missing = [error["loc"][-1] for error in site.errors if error["type"] == "missing"]
        known = self._schema.keys(site.loc)
        free = [name for name in known if name not in site.value] if extra else []
        nearest = {key: nearest_name(key, free, SIMILAR) or nearest_name(key, known, SIMILAR) for key in extra}
        meant = {key: close for key, close in nearest.items() if close}
        for key in extra:
            yield self._explain_unknown(site, key, meant.get(key))
        if missing := [name for name in missing if name not in meant.values()]:
            yield self._explain_missing(site, missing)
        if wrong := [error for error in site.errors if error["type"] not in ("extra_forbidden", "missing")]:
            yield self._explain_wrong(site, wrong)

    def _explain_unknown(self, site: ErrorSite, key: str, meant: str | None) -> OptionError:
        known = self._schema.keys(site.loc)
        who = self._name_owner(site)
        hint = ""
        if known:
            hint = f"did you mean {meant!r}?" if meant else f"available: {', '.join(known)}"
        elif any(self._schema.at(site.loc)):
            hint = "it takes no options"
        text = f"{who} has no option {key!r}" if who else f"unknown key {key!r}"
        return OptionError((*site.loc, key), text, hint, key=True)

    def _explain_missing(self, site: ErrorSite, names: list[str | int]) -> OptionError:
        if isinstance(site.value, list):
            text = f"expected {self._describe_list(site)}, not {len(site.value)}"
            return OptionError(site.loc, text, subject=_dotted(site.loc))
        listed = ", ".join(repr(name) for name in names)
        text = f"{self._name_owner(site)} needs the option{'s' if len(names) > 1 else ''} {listed}"
        described = [(name, self._schema.description((*site.loc, name))) for name in names]
        return OptionError(site.loc, text, "\n  ".join(f"{name}: {words}" for name, words in described if words))

    def _explain_wrong(self, site: ErrorSite, errors: list[ErrorDetails]) -> OptionError:
        by_author = [error for error in errors if error["type"] not in _PYDANTIC_TYPES]
        if by_author:
            text = re.sub(r"^(Value error|Assertion failed), ", "", by_author[0]["msg"])
            for secret in self._secrets:
                text = text.replace(secret, _MASK)
            return OptionError(site.loc, text, subject=_dotted(site.loc))
        expected = join_or(list(dict.fromkeys(self._describe_expected(site, error) for error in errors)))
        text = f"expected {expected}{self._describe_found(site, errors)}"
        return OptionError(site.loc, text, self._suggest_fix(site, errors), subject=_dotted(site.loc))

    def _name_owner(self, site: ErrorSite) -> str:
        inside = _dotted(site.loc)
        return " of ".join(name for name in (inside and f"'{inside}'", self._owner) if name)

    def _describe_expected(self, site: ErrorSite, error: ErrorDetails) -> str:
        kind, context = error["type"], error.get("ctx", {})
        if kind in ("literal_error", "enum"):
            return str(context["expected"])
        if kind in _NUMBERS or kind in _LIMITS:
            return self._describe_number(site, _NUMBERS.get(kind), error)
        if kind in ("string_type", "string_pattern_mismatch"):
            return self._describe_text(site, context.get("pattern", ""))
        if kind in ("tuple_type", "too_short", "too_long"):
            return self._describe_list(site, context)
        if kind == "string_too_short" and context["min_length"] == 1:
            return "a text that is not empty"
        return _KINDS.get(kind) or re.sub(r"^(Input|String|Value) should (be |have )?", "", error["msg"])

    def _describe_number(self, site: ErrorSite, kind: str | None, error: ErrorDetails) -> str:
        """The type of number and its range."""
        kinds = [kind] if kind else ["integer", "number"]
        schema = next((schema for schema in self._schema.at(site.loc) if schema.get("type") in kinds), {})
        words = "a whole number" if schema.get("type", kind) == "integer" else "a number"
        if not schema and error["type"] in _LIMITS:
            return re.sub(r"^Input should be ", "a number ", error["msg"])
        least, most = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if least is not None and most is not None:
            return f"{words} from {_format_number(least)} to {_format_number(most)}"
        limits = ((" of {} or more", least), (" above {}", above), (" of {} or less", most), (" below {}", below))
        return words + " and".join(text.format(_format_number(at)) for text, at in limits if at is not None)

    def _describe_text(self, site: ErrorSite, pattern: str) -> str:
        schemas = [schema for schema in self._schema.at(site.loc) if schema.get("type") == "string"]
        for schema in schemas:
            if examples := schema.get("examples"):
                return f"a text such as {join_or([repr(example) for example in examples])}"
        if pattern:
            return f"a text of the form {pattern}"
        return "a path" if any("path" in schema.get("format", "") for schema in schemas) else "a text"

    def _describe_list(self, site: ErrorSite, context: dict[str, Any] | None = None) -> str:
        for schema in self._schema.at(site.loc):
            least, most = schema.get("minItems"), schema.get("maxItems")
            if least is not None and least == most:
                return f"a list of {count_noun(least, 'value')}"
        if not context or "actual_length" not in context:
            return "a list"
        least, most = context.get("min_length"), context.get("max_length")
        words, limit = ("at least", least) if least is not None else ("at most", most)
        return f"{words} {count_noun(limit or 0, 'entry', 'entries')}"

    def _describe_found(self, site: ErrorSite, errors: list[ErrorDetails]) -> str:
        value = site.value
        if isinstance(value, list):
            counted = any("actual_length" in error.get("ctx", {}) for error in errors)
            return f", not {len(value)}" if counted else ", not a list"
        if isinstance(value, dict):
            return ", not a mapping"
        if value is None:
            return ", but there is no value"
        if self._is_variable(site.loc):
            return ", not the text of an environment variable"
        if self._schema.is_secret(site.loc):
            return ""
        single = "the single value " if all(error["type"] in _LISTS for error in errors) else ""
        return f", not {single}{format_value(value)}"

    def _suggest_fix(self, site: ErrorSite, errors: list[ErrorDetails]) -> str:
        if self._is_variable(site.loc) or self._schema.is_secret(site.loc):
            return ""
        kinds = {error["type"] for error in errors}
        value = site.value
        if kinds & {"literal_error", "enum"} and isinstance(value, str):
            choices = [
                choice for error in errors for choice in re.findall(r"'([^']*)'", self._describe_expected(site, error))
            ]
            close = nearest_name(value, choices, SIMILAR)
            return f"did you mean {close!r}?" if close else ""
        if "bool_type" in kinds and str(value).lower() in ("yes", "no", "on", "off", "y", "n"):
            return f"write {'true' if str(value).lower() in ('yes', 'on', 'y') else 'false'}"
        if kinds & set(_NUMBERS):
            return _suggest_number(value, bool(kinds & {"int_type", "int_from_float"}))
        if "string_type" in kinds and isinstance(value, (int, float)):
            return f'put quotes around it: "{format_value(value)}"'
        if kinds <= _LISTS and value is not None:
            return (
                "start each entry with '- '"
                if isinstance(value, dict)
                else f"put it in brackets: [{format_value(value)}]"
            )
        return ""


def format_value(value: Any) -> str:
    """A value as written in YAML, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    text = f"'{value}'" if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 60 else text[:56] + "...'"


def _suggest_number(value: Any, whole: bool) -> str:
    if isinstance(value, float) and whole and value.is_integer():
        return f"write {int(value)}"
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+" if whole else r"[-+]?\d+(\.\d+)?", value):
        return f"write {value} without quotes"
    return ""


def _format_number(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _dotted(loc: Loc) -> str:
    return ".".join(map(str, loc))
