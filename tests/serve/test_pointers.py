"""The pointer of a refusal (RFC 6901) leads to what is wrong in the body that was sent, whatever its form."""

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.follower_on_a_list import LINEAR, App, Log


def there(body: Any, pointer: str) -> bool:
    """Whether a pointer (RFC 6901) leads to a place of a body, or to a member that is missing there."""
    at = body
    for step in pointer.split("/")[1:]:
        part = step.replace("~1", "/").replace("~0", "~")
        if isinstance(at, list):
            if not part.isdecimal() or int(part) >= len(at):
                return False
            at = at[int(part)]
        elif isinstance(at, dict):
            if part not in at:
                return pointer.endswith(f"/{step}")
            at = at[part]
        else:
            return False
    return True


@pytest.mark.parametrize(
    "body",
    [
        {"features": [["much"]]},
        {"features": ["much"]},
        {"features": [[1.0], [None]]},
        {"features": [[1e300]]},
        {"features": [1.0, 2.0]},
    ],
)
def test_the_pointer_of_a_fault_by_place_leads_into_the_body(api: Api, body: Any) -> None:
    answer = api.post("/v1/predict", body)
    assert answer.status == 422
    for one in answer.json["errors"]:
        assert there(body, one["pointer"]) and one["pointer"].startswith("/features"), one


@pytest.mark.parametrize(
    "body", [{"number": 1.0, "id": ""}, {"number": 1.0, "t": 2**53}, {"number": 1e300}, {"id": "a", "number": "x"}, {}]
)
def test_the_pointer_of_a_fault_at_an_alias_leads_into_the_body(app: App, log: Log, body: Any) -> None:
    alias = {"path": "/v1/sign", "in": {"number": "x", "id": "id", "t": "t"}, "out": {"label": "class"}}
    config = app.config(LINEAR, serve={"aliases": [alias]})
    app.serving(config)
    log.usual(30)
    answer = Api(app, config).post("/v1/sign", body)
    assert answer.status == 422
    for one in answer.json["errors"]:
        assert "instances" not in one["pointer"] and there(body, one["pointer"]), one
    assert "instances" not in answer.json["detail"], answer.json


@pytest.mark.parametrize("name", ["a.b", "a/b", "a~1b", "a[0]"])
@pytest.mark.parametrize("where", ["body", "instance"])
def test_the_pointer_to_a_member_that_nobody_knows_is_that_of_rfc_6901(api: Api, name: str, where: str) -> None:
    body: Any = {"instances": [{"x": 1.0}]}
    (body if where == "body" else body["instances"][0])[name] = 1
    answer = api.post("/v1/predict", body)
    assert answer.status == 422
    escaped = name.replace("~", "~0").replace("/", "~1")
    assert [one["pointer"] for one in answer.json["errors"]] == [
        ("/" if where == "body" else "/instances/0/") + escaped
    ]
