"""Types of settings that more than one value or section needs, with their bounds."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
SliceName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,30}$")]
AttentionModule = Literal["q_proj", "k_proj", "v_proj", "o_proj"]
# Discriminated before validation, so that a bad value gives one message instead of one per alternative.
NUMBER = "number"
_BY_VALUE = Discriminator(lambda value: "auto" if value == "auto" else NUMBER)
_Auto = Annotated[Literal["auto"], Tag("auto")]
StrengthOrAuto = Annotated[Annotated[float, Field(ge=0, le=1e9), Tag(NUMBER)] | _Auto, _BY_VALUE]
RateOrAuto = Annotated[Annotated[float, Field(gt=0, le=1), Tag(NUMBER)] | _Auto, _BY_VALUE]


# A column, or a path into the request or the response.
SLICE_PLACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}|(request|response)(\.[^.\[\]]+|\[-?[0-9]+\])+")


def _slice_place(value: str) -> str:
    if not SLICE_PLACE.fullmatch(value):
        raise ValueError("expected a column, or a path such as 'request.metadata.language' or 'response.intent'")
    return value


SlicePlace = Annotated[str, AfterValidator(_slice_place)]
