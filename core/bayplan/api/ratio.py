"""Ratio: how many prefill and decode replicas one unit of an InferenceDeployment has, or may have.

Texts are those of `kubectl explain`.
"""

from enum import StrEnum

from kube_custom_resource.schema import BaseModel
from pydantic import ConfigDict, Field

from bayplan.api.schema import rule, rules


class RatioMode(StrEnum):
    """Whether a unit may differ from the ratio that is asked for."""

    FIXED = "Fixed"
    AUTO = "Auto"


class Bounds(BaseModel):
    """How many replicas of a role one unit may have."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.min <= self.max",
                message="spec.ratio.bounds: min must not be above max: lower min or raise max",
                field=".min",
            )
        )
    )

    min: int = Field(
        description="Least replicas of the role in a unit that serves; with them it is placed."
        " 1 to 256.",
        ge=1,
        le=256,
    )
    max: int = Field(description="Most replicas of the role in a unit. 1 to 256.", ge=1, le=256)


class RatioBounds(BaseModel):
    """The band in which the numbers of one unit stay."""

    prefill: Bounds | None = Field(
        default=None,
        description="Bounds for prefill replicas; for a single Prefill pool. Default: as many as"
        " `ratio.prefill`, neither more nor less.",
    )
    decode: Bounds | None = Field(
        default=None,
        description="Bounds for decode replicas; for a single Decode pool. Default: as many as"
        " `ratio.decode`, neither more nor less.",
    )


class Ratio(BaseModel):
    """The whole numbers of one unit."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.prefill + self.decode > 0",
                message="spec.ratio must not be 0:0: set prefill or decode to at least 1",
            ),
            rule(
                "(self.mode == 'Auto') == (has(self.bounds) &&"
                " (has(self.bounds.prefill) || has(self.bounds.decode)))",
                message="spec.ratio.mode Auto and spec.ratio.bounds go together: say the bounds of"
                " prefill or decode, or set spec.ratio.mode to Fixed and remove the bounds",
                field=".mode",
            ),
            *(
                rule(
                    f"!has(self.bounds) || !has(self.bounds.{role}) ||"
                    f" (self.bounds.{role}.min <= self.{role} &&"
                    f" self.{role} <= self.bounds.{role}.max)",
                    message=f"spec.ratio.{role} must be within spec.ratio.bounds.{role}: change it,"
                    " or the bounds",
                    field=f".{role}",
                )
                for role in ("prefill", "decode")
            ),
        )
    )

    mode: RatioMode = Field(
        default=RatioMode.FIXED,
        description="Fixed: every unit has exactly the numbers below. Auto: it has them where there"
        " is room, and serves with any numbers within `bounds`; whoever knows the load may change"
        " them within these at any time. Default Fixed. A change touches no pod by itself.",
    )
    prefill: int = Field(
        default=1,
        description="Prefill replicas in one unit. Default 1; 0 to 256.",
        ge=0,
        le=256,
    )
    decode: int = Field(
        default=1,
        description="Decode replicas in one unit. Default 1; 0 to 256.",
        ge=0,
        le=256,
    )
    bounds: RatioBounds | None = Field(
        default=None,
        description="Between which numbers of replicas a unit may be, in mode Auto; a role without"
        " them has exactly its number. A unit is placed with the least of each role, and grows"
        " towards `prefill` and `decode` where there is room. Default: none.",
    )
