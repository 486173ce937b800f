"""Output schemas that every value of their type satisfies in its JSON form, in Ajv as here.

Pydantic writes formats that its own serializer breaks: `date-time` for a `datetime` that may have no zone, `duration` for
one that may be negative, `uri` for what WHATWG's rules let pass. They are left out, and so is what readers count
differently: `multipleOf` (floats) and `uniqueItems` (integers beyond 2**53, masked secrets).
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import JsonSchemaValue

from trio_mcp.features.client_schemas import subschemas_mapped
from trio_mcp.features.schemas import PlainJsonSchema

__all__ = ["OutputJsonSchema", "as_serialized"]

_KEPT_FORMATS = frozenset({"date", "date-time", "uuid", "ipv4"})
_LEFT_OUT = frozenset({"multipleOf", "uniqueItems"})


def as_serialized(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without the keywords that values of its type may break."""
    kept: dict[str, Any] = subschemas_mapped(schema, _kept)
    return kept


def _kept(part: dict[str, Any]) -> dict[str, Any]:
    form = part.get("format")
    if form == "password":
        # A secret is sent as asterisks, whatever its length: limits on it do not hold.
        return {key: part[key] for key in ("title", "description", "default") if key in part} | {"type": "string"}
    if form in ("base64", "base64url"):
        part = {**part, "contentEncoding": form}
    return {
        key: value
        for key, value in part.items()
        if key not in _LEFT_OUT and (key != "format" or not isinstance(form, str) or form in _KEPT_FORMATS)
    }


class OutputJsonSchema(PlainJsonSchema):
    """The schema of what pydantic's serializers write, where its own schema says otherwise."""

    def datetime_schema(self, schema: Any) -> JsonSchemaValue:
        """`date-time` (RFC 3339) only where the type requires a zone: others are written without one."""
        return _formatless_unless(super().datetime_schema(schema), schema.get("tz_constraint") == "aware")

    def bytes_schema(self, schema: Any) -> JsonSchemaValue:
        """Base64 unless the model says otherwise; length limits are of the bytes and do not hold for the text."""
        if self._config.config_dict.get("ser_json_bytes", "base64") == "base64":
            return {"type": "string", "contentEncoding": "base64"}
        return {"type": "string"}

    def url_schema(self, schema: Any) -> JsonSchemaValue:
        """Text without a limit: encoding may make it longer than the type allows."""
        return {"type": "string"}

    def ser_schema(self, schema: Any) -> JsonSchemaValue | None:
        """Any value, where a serializer of the user's has no return annotation."""
        found = super().ser_schema(schema)
        if found is None and schema.get("type") in ("function-plain", "function-wrap"):
            home, name = (getattr(schema["function"], it, "") for it in ("__module__", "__name__"))
            if str(home).partition(".")[0] != "pydantic":
                return {}
            if "secret" in name:
                return {"type": "string"}
        return found


def _formatless_unless(found: JsonSchemaValue, keep: bool) -> JsonSchemaValue:
    return found if keep else {key: value for key, value in found.items() if key != "format"}
