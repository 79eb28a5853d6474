"""The base of all configuration: frozen, every key known, and errors that say which field and what to do."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from glassgpt.errors import UserError, shorten, show, suggest

MOST = 2**63  # of any whole number: what a 64-bit integer holds, and a float's range besides


class Config(BaseModel):
    """Typed data: cannot be changed after it is made, refuses unknown keys, shows each field's description as help."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "") -> Self:
        """Make one from plain data, such as a parsed TOML file.

        Raises:
            UserError: one line for the first thing that is wrong, with its dotted name; `source` goes in front.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(_first_line(cls, error, source)) from None

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, values: Any) -> Any:
        """Refuse whole numbers that no field means, before anything counts, prints or allocates with them."""
        if isinstance(values, Mapping):
            for name, value in values.items():
                if isinstance(value, int) and abs(value) > MOST:
                    raise ValueError(f"{name}: a number of {value.bit_length() * 3 // 10} digits is too large")
        return values

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again."""
        return type(self).parse({**self.model_dump(exclude_unset=True), **changes})


def _first_line(cls: type[BaseModel], error: ValidationError, source: str) -> str:
    """Say the first problem in one line: `source: section.field: what is wrong`."""
    problem = error.errors()[0]
    location = [str(part) for part in problem["loc"]]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        owner: type[BaseModel] = cls
        for part in location[:-1]:
            inner = owner.model_fields[part].annotation
            assert isinstance(inner, type) and issubclass(inner, BaseModel)
            owner = inner
        message = f"unknown field, {suggest(location[-1], owner.model_fields)}"
        location[-1] = shorten(location[-1])
    elif problem["type"] not in ("missing", "value_error", "model_type") and problem["input"] is not None:
        message = f"{message[0].lower()}{message[1:]}, not {show(problem['input'])}"
    where = ".".join(location)
    return ": ".join(part for part in (source, where, message) if part)
