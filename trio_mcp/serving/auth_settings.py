"""The settings of authorization, and what they make of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, SecretStr

from trio_mcp import defaults
from trio_mcp.serving.setting_types import CommaList, Duration, Size, setting

__all__ = ["AuthSettings"]

if TYPE_CHECKING:
    from trio_mcp.auth.bearer_auth import BearerAuth

_GROUP = "Authorization"


class AuthSettings(BaseModel):
    """One field for each of `auth.auth_options.AuthOptions`, by its name with `auth_` before it."""

    # Errors must not show the input: some of the values are secrets.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    auth_issuer: CommaList = setting(
        (), _GROUP, "Authorization servers whose signed tokens are accepted; turns authorization on."
    )
    auth_resource: str | None = setting(
        None, _GROUP, "The public URL of the endpoint, as clients are told; its own where it listens on loopback alone."
    )
    auth_audience: CommaList = setting((), _GROUP, "Audiences of accepted tokens; `auth_resource` unless set.")
    auth_audience_claim: str = setting(
        "aud", _GROUP, "The claim compared with the audience; `client_id` for Cognito.", min_length=1
    )
    auth_required_scopes: CommaList = setting((), _GROUP, "Scopes every request needs, else 403.")
    auth_challenge_scopes: CommaList = setting(
        (), _GROUP, "Scopes a 401 tells clients to ask for; the required ones unless set."
    )
    auth_scopes_supported: CommaList = setting(
        (), _GROUP, "Scopes in the metadata of the server; the required ones unless set."
    )
    auth_jwks_uri: str | None = setting(
        None, _GROUP, "Where the keys of the one issuer are; found by its metadata unless set."
    )
    auth_public_key: Path | None = setting(None, _GROUP, "File with the key of the one issuer (PEM) instead.")
    auth_algorithms: CommaList = setting((), _GROUP, "Accepted signature algorithms; all asymmetric ones unless set.")
    auth_require_type: str | None = setting(
        None, _GROUP, "The `typ` that tokens must have; `at+jwt` where the issuer sets it (RFC 9068)."
    )
    auth_leeway: Duration = setting(defaults.AUTH_LEEWAY, _GROUP, "How far clocks may differ.")
    auth_max_token: Size = setting(defaults.AUTH_MAX_TOKEN, _GROUP, "Bytes of a token; longer ones are refused unread.")
    auth_introspection_url: str | None = setting(
        None, _GROUP, "Where the issuer is asked about tokens that are not signed (RFC 7662)."
    )
    auth_introspection_client_id: str | None = setting(None, _GROUP, "Who asks there.")
    auth_introspection_client_secret: SecretStr | None = setting(None, _GROUP, "The secret of who asks there.")
    auth_introspection_cache: Duration = setting(
        defaults.AUTH_INTROSPECTION_CACHE, _GROUP, "How long a good answer counts; 0 asks every time."
    )
    auth_tokens: Path | None = setting(
        None, _GROUP, "File of fixed tokens, a line each: `token client scopes`; for its owner alone (0600)."
    )
    auth_legacy_metadata: bool = setting(
        False, _GROUP, "Serve a copy of the issuer's own metadata, for clients of 2025-03-26."
    )
    auth_streams_expire: bool = setting(True, _GROUP, "End standing streams after their token has expired.")

    def bearer_auth(self) -> BearerAuth | None:
        """What the settings ask for; None when none is given. Raises AuthConfigurationError, which names what to change."""
        given = {name: getattr(self, name) for name in self.given_for_auth}
        if not given:
            return None
        from trio_mcp.auth.auth_options import AuthOptions, bearer_auth

        return bearer_auth(AuthOptions(**{name.removeprefix("auth_"): _plain(value) for name, value in given.items()}))

    @property
    def given_for_auth(self) -> frozenset[str]:
        """The settings of authorization that were given."""
        return frozenset(self.model_fields_set & AuthSettings.model_fields.keys())


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
