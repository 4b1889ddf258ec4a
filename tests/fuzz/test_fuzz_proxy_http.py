# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever a stranger sends as a request is understood, or refused with a status; nothing else happens."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _config, _connections, _http

FUZZ = settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

LINE = st.sampled_from(["GET / HTTP/1.1", "GET /novnc/../a?token=%41 HTTP/1.1", "HEAD //x HTTP/1.0", "PUT / HTTP/1.1"])
NAME = st.sampled_from(
    ["Host", "Origin", "Upgrade", "Connection", "Sec-WebSocket-Key", "X-Forwarded-For", "X-User", "X"]
)
VALUE = st.one_of(
    st.sampled_from(
        ["websocket", "upgrade", "13", "AAAAAAAAAAAAAAAAAAAAAA==", "https://a", "1.2.3.4, ::1", "binary", "\0"]
    ),
    st.text(max_size=30),
)
HEADERS = st.lists(st.tuples(NAME, VALUE), max_size=8)

WEB = _config.parse(
    {
        "listeners": [{"kind": "web", "address": "::", "port": 1}],
        "users": {"by": ["header"], "header": "X-User"},
        "trusted_proxies": ["10.0.0.0/8"],
    }
).web


def understand(data: bytes) -> None:
    with contextlib.suppress(_http.BadRequest):
        end = _http.end_of_head(data)
        if not end:
            return
        head = _http.parse_head(data[:end])
        client = _http.client_of("10.0.0.1", head.headers, WEB)
        assert client.by_proxy
        _http.user_of(head, client, None, WEB)
        _http.origin_allowed(head, client, WEB)
        novnc = _config.NovncSettings("/", "vnc.html", {}, "/")
        location = _http.console_location(head.path, head.query.get("token"), novnc)
        assert location is None or "\r" not in location + head.path
        if head.wants_upgrade:
            with contextlib.suppress(_connections._Refused):
                _connections._shake_hands(head)


@FUZZ
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    understand(data)
    understand(data + b"\r\n\r\n")


@FUZZ
@given(LINE, HEADERS)
def test_what_looks_like_a_request(line: str, headers: list[tuple[str, str]]) -> None:
    lines = [line, *(f"{name}: {value}" for name, value in headers)]
    understand("\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n")


@FUZZ
@given(st.text(st.sampled_from("./%2e5cfsecrt\\\0a-"), max_size=30))
def test_no_path_leads_out(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    if not root.exists():
        root.mkdir()
        (root / "a").write_text("a")
        (tmp_path / "secret").write_text("secret")
        (root / "c").symlink_to("..")
        (root / "s").symlink_to("../secret")
    found = _http.Files(str(root), ()).find(path, {})
    if found is None:
        return
    assert found.file is not None
    with os.fdopen(found.file) as file:
        assert file.read() == "a"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
EXAMPLE = json.loads((Path(_config.__file__).parent / "example.json").read_text())


@FUZZ
@given(st.dictionaries(st.sampled_from(sorted(EXAMPLE)), JSON, max_size=4), JSON)
def test_any_configuration_is_read_or_refused_with_sentences(changes: dict[str, object], inner: object) -> None:
    documents: list[object] = [inner, {**EXAMPLE, **changes}]
    for key, value in changes.items():
        whole = EXAMPLE[key]
        documents += [{**EXAMPLE, key: {**whole, name: value}} for name in whole] if isinstance(whole, dict) else []
    for document in documents:
        with contextlib.suppress(_config.ConfigurationInvalid):
            _config.parse(document)
    with pytest.raises(_config.ConfigurationInvalid):
        _config.parse({**EXAMPLE, "listeners": None})
