"""`server.py` with tokens verified by a function, as it was done before there was `auth=`. Settings come from the environment."""

import importlib.util
import os
from pathlib import Path

import jwt

from trio_mcp import CannotTell
from trio_mcp.auth.principal import HttpRequestView, Principal

ISSUER, RESOURCE = os.environ["BY_HAND_ISSUER"], os.environ["BY_HAND_RESOURCE"]
LEEWAY = float(os.environ.get("BY_HAND_LEEWAY", "30"))
_keys = jwt.PyJWKClient(f"{ISSUER}/jwks")


def who(request: HttpRequestView) -> Principal | None:
    """The caller by its token; not async, so that it runs in a worker thread while it fetches keys."""
    scheme, _, token = (request.header(b"authorization") or "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        key = _keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, algorithms=["RS256"], audience=RESOURCE, issuer=ISSUER, leeway=LEEWAY)
    except jwt.PyJWKClientConnectionError as error:
        raise CannotTell("the keys cannot be fetched") from error
    except jwt.PyJWTError:
        return None
    return Principal(claims["sub"], ISSUER, claims, client_id=claims["client_id"])


_spec = importlib.util.spec_from_file_location("rig_server", Path(__file__).with_name("server.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
mcp = _module.mcp
mcp.authenticate = who
