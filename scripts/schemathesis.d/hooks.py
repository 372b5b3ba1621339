# The rules that an OpenAPI document cannot express: how to generate a text that contains JSON, and which fields of a
# request depend on each other. Loaded by scripts/schemathesis through schemathesis.toml.

import json
import os
import re
import uuid

import schemathesis
from hypothesis import strategies as st

# No NUL and no surrogates, as the document says of every content.
TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20)
SCALARS = st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXT, values, max_size=4),
    max_leaves=8,
)
schemathesis.openapi.format("json-text", VALUES.map(json.dumps))

USER = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33"
NO_ORDER = (None, "", "0", 0)
ZEROS = "00000000-0000-0000-0000-000000000000"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Repairs requests that should be valid: OpenAPI cannot express that fields of a request depend on each other."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    label, query, headers, body = case.operation.label, case.query or {}, case.headers or {}, case.body
    # For conditions, schemathesis also generates values that do not match their pattern.
    for parameter in case.operation.headers:
        pattern = parameter.definition.get("schema", {}).get("pattern")
        if pattern and not re.search(pattern, str(headers.get(parameter.name, ""))):
            headers.pop(parameter.name, None)
    # An external id belongs to a user.
    if label == "GET /orders" and "external_id" in query:
        query.setdefault("user_id", USER)
    if not isinstance(body, dict) or label not in ("POST /orders", "PUT /orders/{order_id}"):
        return
    if label == "PUT /orders/{order_id}":
        # A pattern cannot exclude it.
        if same(case.path_parameters["order_id"], ZEROS):
            case.path_parameters["order_id"] = USER
        if not same(body.get("order_id"), case.path_parameters["order_id"]):
            body.pop("order_id", None)
        # Needed where the order does not exist yet, which the document cannot express.
        if body.get("user_id") in (None, ""):
            body["user_id"] = USER
    # The header and the body must name the same version, and a new order does not have one.
    is_new = label == "POST /orders" and body.get("order_id") in NO_ORDER
    if is_new or body.get("version") is not None:
        headers.pop("If-Match", None)
    if "If-Match" in headers or body.get("version") is not None:
        headers.pop("If-None-Match", None)


@schemathesis.hook
def after_call(context, case, response):
    """Notes which operations succeed: scripts/schemathesis asks afterwards whether each of them did at least once."""
    if 200 <= response.status_code < 300:
        with open(os.environ["SCHEMATHESIS_SUCCEEDED"], "a") as succeeded:
            print(case.operation.label, file=succeeded)


def same(one, other):
    """Whether two texts are spellings of one UUID."""
    try:
        return uuid.UUID(one) == uuid.UUID(other)
    except (AttributeError, TypeError, ValueError):
        return False
