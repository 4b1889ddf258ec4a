# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tokens: websockify's files, and signed ones that expire."""

from __future__ import annotations

import base64
import builtins
import contextlib
import hashlib
import hmac
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

pytest.importorskip("jwt", reason="signed tokens need PyJWT")
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, MissingLibrary
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _tokens
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._config import JwtSettings
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._denied import Denied
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._tokens import (
    Claims,
    Place,
    SignedTokens,
    TokenDirectories,
    TokenFiles,
)

SECRET = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
SECONDS = 60.0
NOW = int(time.time())
LATER = NOW + 3600

# --- Token files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:5900", Place("tcp", "127.0.0.1", 5900)),
        ("web-1.example.org:5901", Place("tcp", "web-1.example.org", 5901)),
        ("[::1]:5900", Place("tcp", "::1", 5900)),
        ("::1:5900", Place("tcp", "::1", 5900)),
        ("unix_socket:/run/vnc/a b.sock", Place("unix", "/run/vnc/a b.sock")),
        ("unix_socket:run/vnc", None),
        ("unix_socket:/run/\0vnc", None),
        ("host", None),
        ("host:", None),
        (":5900", None),
        ("host:0", None),
        ("host:65536", None),
        ("host:vnc", None),
        ("host:٥٩٠٠", None),
        ("a b:5900", None),
        ("/etc:5900", None),
        ("", None),
    ],
)
def test_targets_of_token_files(text: str, place: Optional[Place]) -> None:
    assert _tokens.parse_target(text) == place


def write(path: Path, *lines: str) -> Path:
    """Write a file whole, as a careful program does it: whoever reads sees the old one or the new one."""
    new = path.with_name(f".{path.name}.new")
    new.write_text("".join(f"{line}\n" for line in lines))
    new.rename(path)
    return path


def test_token_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "tokens", "# comment", "", "one: 127.0.0.1:5900", "  two:\tunix_socket:/run/v  ", "a:b: h:1"
    )
    files = TokenFiles((str(path),))
    assert files.find("one") == Place("tcp", "127.0.0.1", 5900)
    assert files.find("two") == Place("unix", "/run/v")
    assert files.find("a:b") == Place("tcp", "h", 1)
    for unknown in ("three", "One", "one:", "# comment", "", "\udcff", "one\0"):
        assert files.find(unknown) is None


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", ".hidden", "../ports/one", "below/one", "/etc/passwd", "one\0", "\udcff", "x" * 300, "three"],
)
def test_tokens_that_name_no_file(tmp_path: Path, token: str) -> None:
    """Nothing but what lies in the directory itself, whatever the token is."""
    ports = tmp_path / "ports"
    (ports / "below").mkdir(parents=True)
    for name in ("one", ".hidden", "below/one"):
        (ports / name).write_text("h:5900\n")
    assert TokenDirectories((str(ports),), (str(ports),)).find(token) is None


def test_file_for_each_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "one").write_text(" h:5900\n")
    (tmp_path / "two").write_text("unix_socket:/run/v")
    directories = TokenDirectories(("/nonexistent", str(tmp_path)), ())
    assert directories.find("one") == Place("tcp", "h", 5900)
    assert directories.find("two") == Place("unix", "/run/v")
    (tmp_path / "one").write_text("h:5901\n")
    assert directories.find("one") == Place("tcp", "h", 5901)
    (tmp_path / "one").unlink()
    assert directories.find("one") is None
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"h", b"a:1\nb:2", b"\xff:5900", b"h:1" + b" " * 5000])
def test_file_that_holds_no_place(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Told without the token, which is its name."""
    (tmp_path / "secret").write_bytes(content)
    assert TokenDirectories((str(tmp_path),), ()).find("secret") is None
    (record,) = caplog.records
    assert record.getMessage() == f"A token's file in {tmp_path} holds no 'host:port'."


def test_what_is_no_file_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret").symlink_to("secret")
    directories = TokenDirectories((str(tmp_path),), ())
    assert directories.find("pipe") is None
    assert directories.find("secret") is None
    assert "can't be read: Too many levels of symbolic links" in caplog.text
    assert "secret" not in caplog.text


def test_socket_for_each_token(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("h:5900")
    directories = TokenDirectories((), (str(tmp_path),))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "web-1"))
        place = directories.find("web-1")
    assert place is not None
    assert place[:3] == ("unix", str(tmp_path / "web-1"), 0)
    digest = hashlib.sha256(b"web-1").hexdigest()[:12]
    assert place.name == f"{tmp_path}/#{digest}", "logs tell no token"
    assert directories.find("file") is None


def test_token_file_that_changes(tmp_path: Path) -> None:
    """Also when it keeps its size, and changes again within one step of the file system's clock."""
    path = tmp_path / "tokens"
    files = TokenFiles((str(path),))
    assert files.find("one") is None
    for port in range(5900, 5920):
        path.write_text(f"one: h:{port}\n")
        assert files.find("one") == Place("tcp", "h", port)
    path.write_text("two: h:1\n")
    assert files.find("one") is None
    assert files.find("two")
    path.unlink()
    assert files.find("two") is None


def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system whose clock makes steps so long that no change of a young file shows in its times."""
    found = _tokens._Stamp(1, 2, 3, time.time_ns(), time.time_ns())
    monkeypatch.setattr(_tokens._Stamp, "of", lambda _found: found)


def test_change_that_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_clock(monkeypatch)
    path, key = write(tmp_path / "tokens", "one: h:1"), Path(secret(tmp_path))
    files = TokenFiles((str(path),))
    assert files.find("one")
    write(path, "two: h:1")
    assert files.find("two")
    tokens = SignedTokens(settings(str(key)))
    assert tokens.check(token())
    key.write_text(OTHER)
    assert tokens.check(token(OTHER))


def test_token_file_is_read_again_only_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "tokens", "one: h:5900")
    files = TokenFiles((str(path),))
    monkeypatch.setattr(_tokens, "_SETTLED", -LATER * 10**9)
    reads: list[str] = []
    read = _tokens._read_token_file

    def counted(path: str, tell: Callable[..., None]) -> dict[bytes, Place]:
        reads.append(path)
        return read(path, tell)

    monkeypatch.setattr(_tokens, "_read_token_file", counted)
    for _turn in range(3):
        assert files.find("one")
    assert len(reads) == 1
    write(path, "two: h:5900")
    assert files.find("two")
    assert len(reads) == 2


def test_directory_of_token_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "tokens"
    (folder / "sub").mkdir(parents=True)
    write(folder / "a", "one: h:1", "both: h:1")
    write(folder / "b", "two: h:2", "both: h:2")
    (folder / ".b.swp").write_text("hidden: h:3\n")
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    files = TokenFiles((str(folder), str(write(tmp_path / "more", "three: h:3"))))
    assert files.find("both") == Place("tcp", "h", 2), "as with websockify, the last one counts"
    assert [files.find(token) is not None for token in ("one", "two", "three", "hidden")] == [True, True, True, False]
    write(folder / "c", "four: h:4")
    assert files.find("four")
    (folder / "a").unlink()
    assert files.find("one") is None
    assert files.find("two")
    assert not caplog.records, "what is no file is no mistake"


def test_pipe_in_place_of_a_token_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokens")
    assert TokenFiles((str(tmp_path / "tokens"),)).find("one") is None


def test_bad_lines_cost_nobody_else_his_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are told by number, once, and never by what is in them."""
    path = tmp_path / "tokens"
    path.write_bytes(
        b"geheim1 h:1\none: h:1\ngeheim2: h:port\n\xff\xfe: \xff:1\nlong: " + b"h" * 5000 + b":1\ntwo: h:2\n"
    )
    files = TokenFiles((str(path),))
    with caplog.at_level(logging.DEBUG):
        for _turn in range(3):
            assert files.find("one")
            assert files.find("two")
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"The token file {path}, line {number}" for number in (1, 3, 4, 5)
    ]
    assert "geheim" not in caplog.text


def test_file_of_nothing_but_bad_lines_does_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "tokens", *["no token"] * 1000)
    assert TokenFiles((str(path),)).find("one") is None
    assert len(caplog.records) == _tokens.MOST_MISTAKES + 1
    assert "has 980 more such lines" in caplog.records[-1].getMessage()


def test_token_files_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_tokens, "MOST_FILE", 10)
    monkeypatch.setattr(_tokens, "MOST_FILES", 1)
    write(tmp_path / "a", "a: h:1")
    write(tmp_path / "b", "b: h:1")
    big = write(tmp_path / "a", "a: h:1")
    assert TokenFiles((str(tmp_path),)).find("b") is None
    assert TokenFiles((str(tmp_path),)).find("a")
    write(big, "a: h:1", "b: h:1")
    assert TokenFiles((str(big),)).find("a") is None
    assert "more than 1 files" in caplog.text
    assert "more than 10 bytes" in caplog.text


def test_token_file_that_can_not_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = TokenFiles((str(tmp_path / "none"),))
    for _turn in range(3):
        assert files.find("one") is None
    assert caplog.text.count("can't be read: No such file or directory.") == 1


# --- Signed tokens ----------------------------------------------------------------------------------------------------


def secret(folder: Path, text: str = SECRET) -> str:
    path = folder / "key"
    path.write_text(text + "\n")
    return str(path)


def settings(key: str, **given: Any) -> JwtSettings:
    default: dict[str, Any] = {
        "algorithm": "HS256",
        "single_use": False,
        "issuer": None,
        "audience": None,
        "leeway_seconds": 0.0,
        "most_seconds": None,
    }
    return JwtSettings(key=key, **{**default, **given})


def token(key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A token for a domain, good for an hour, if nothing else is said. None takes a claim away."""
    payload = {"domain": "web", "exp": LATER, **claims}
    return str(jwt.encode({name: value for name, value in payload.items() if value is not None}, key, algorithm))


@pytest.fixture
def signed(tmp_path: Path) -> SignedTokens:
    return SignedTokens(settings(secret(tmp_path)))


def denial(tokens: SignedTokens, text: str) -> tuple[int, str]:
    """The status and the sentence; no part of the token is in it, nor in what has led to it."""
    with pytest.raises(Denied) as caught:
        tokens.check(text)
    assert str(caught.value) == caught.value.sentence
    for part in text.split("."):
        assert len(part) < 4 or part not in caught.value.sentence
    return caught.value.status, caught.value.sentence


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({}, Claims(Place("domain", "web"), None, None, False, None)),
        ({"sub": "ada", "nbf": NOW - 5}, Claims(Place("domain", "web"), None, None, False, "ada")),
        ({"domain": "../ü x"}, Claims(Place("domain", "../ü x"), None, None, False, None)),
        ({"domain": None, "target": "t"}, Claims(None, "t", None, False, None)),
        ({"domain": None, "unix": "/run/v"}, Claims(Place("unix", "/run/v"), None, None, False, None)),
        ({"domain": None, "host": "h", "port": 5900}, Claims(Place("tcp", "h", 5900), None, None, False, None)),
        ({"domain": None, "host": "::1", "port": "59"}, Claims(Place("tcp", "::1", 59), None, None, False, None)),
        ({"power": "deny", "view_only": True}, Claims(Place("domain", "web"), None, "deny", True, None)),
        ({"power": "allow", "view_only": False}, Claims(Place("domain", "web"), None, "allow", False, None)),
        (
            {"port": 1, "iat": LATER, "jti": "x", "colour": "red"},
            Claims(Place("domain", "web"), None, None, False, None),
        ),
    ],
)
def test_claims(signed: SignedTokens, claims: dict[str, Any], allowed: Claims) -> None:
    assert signed.check(token(**claims)) == allowed


@pytest.mark.parametrize(
    ("claims", "status", "words"),
    [
        ({"exp": NOW - 5}, 401, "The token has expired."),
        ({"exp": None}, 401, "The token lacks the claim exp, which is required here."),
        ({"exp": True}, 401, "exp"),
        ({"exp": "soon"}, 401, "no token"),
        ({"exp": 1e400}, 401, "no token"),
        ({"exp": [LATER]}, 401, "no token"),
        ({"exp": str(LATER)}, 401, "The token's claim exp is no time."),
        ({"nbf": "5"}, 401, "The token's claim nbf is no time."),
        ({"nbf": LATER}, 401, "The token is not valid yet."),
        ({"nbf": "now"}, 401, "no token"),
        ({"nbf": {}}, 401, "no token"),
        ({"aud": "others"}, 401, "The token was made for another audience."),
        ({"domain": None}, 403, "has to name one"),
        ({"target": "t"}, 403, "has to name one"),
        ({"host": "h", "port": 1}, 403, "has to name one"),
        ({"domain": 5}, 403, "domain is no name"),
        ({"domain": ""}, 403, "domain is no name"),
        ({"domain": "a\0b"}, 403, "domain is no name"),
        ({"domain": ["web"]}, 403, "domain is no name"),
        ({"domain": None, "target": {}}, 403, "target is no name"),
        ({"domain": None, "host": "h"}, 403, "port is no port"),
        ({"domain": None, "host": "h", "port": 0}, 403, "port is no port"),
        ({"domain": None, "host": "h", "port": True}, 403, "port is no port"),
        ({"domain": None, "host": "h", "port": 65536}, 403, "port is no port"),
        ({"domain": None, "host": "h", "port": "59x"}, 403, "port is no port"),
        ({"power": "everything"}, 403, "power is none of allow, deny, as_configured"),
        ({"power": ["allow"]}, 403, "power is none of"),
        ({"view_only": "no"}, 403, "view_only is neither"),
        ({"view_only": 0}, 403, "view_only is neither"),
        ({"sub": 7}, (401, 403), "sub|no token"),  # newer releases of PyJWT look at it themselves
    ],
)
def test_claims_that_open_nothing(signed: SignedTokens, claims: dict[str, Any], status: Any, words: str) -> None:
    told, sentence = denial(signed, token(**claims))
    assert told in (status if isinstance(status, tuple) else (status,))
    assert any(word in sentence for word in words.split("|"))


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def by_hand(header: dict[str, Any], payload: dict[str, Any], digest: Optional[Callable[..., Any]]) -> str:
    """A token as no library would make it, signed with the right secret where there is a `digest`."""
    head = f"{encoded(header)}.{encoded(payload)}"
    mac = hmac.new(SECRET.encode(), head.encode(), digest).digest() if digest else b""
    return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


GOOD = {"domain": "web", "exp": LATER}


def test_token_made_by_hand_is_a_token(signed: SignedTokens) -> None:
    """Else the next tests would show nothing."""
    assert signed.check(by_hand({"alg": "HS256"}, GOOD, hashlib.sha256)).place


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 5, ["HS256"], "HS512", "RS256", "hs256"])
def test_token_does_not_choose_its_algorithm(signed: SignedTokens, algorithm: Any) -> None:
    for digest in (None, hashlib.sha256, hashlib.sha512):
        status, _sentence = denial(signed, by_hand({"alg": algorithm, "typ": "JWT"}, GOOD, digest))
        assert status == 401


def test_other_algorithm_is_told(signed: SignedTokens) -> None:
    text = by_hand({"alg": "HS384"}, GOOD, hashlib.sha384)
    assert denial(signed, text) == (401, "The token is not signed with HS256.")


def test_critical_extensions(signed: SignedTokens) -> None:
    assert denial(signed, by_hand({"alg": "HS256", "crit": ["x"], "x": 1}, GOOD, hashlib.sha256))[0] == 401


def test_tampered_token(signed: SignedTokens) -> None:
    good = token()
    head, payload, signature = good.split(".")
    for text in (
        f"{head}.{encoded({**GOOD, 'domain': 'db'})}.{signature}",
        f"{head}.{payload}.{signature[:-2]}",
        f"{head}.{payload}.",
        f"{head}.{payload}",
        f".{payload}.{signature}",
        token(OTHER),
    ):
        assert denial(signed, text)[0] == 401
    assert signed.check(good)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "a.b.c", "é.é.é", "\udcff", "a" * 9000, base64.b64encode(b"[" * 5000).decode() + ".e30.e30"],
    ids=["empty", "dot", "dots", "more-dots", "letters", "accents", "surrogate", "long", "deep"],
)
def test_what_is_no_token(signed: SignedTokens, text: str) -> None:
    assert denial(signed, text)[0] == 401


def test_form_of_a_token() -> None:
    assert _tokens.looks_signed(token())
    for text in ("", "a.b", "token-1", "a.b.c.d", "a.b.c\n", "ä.b.c", "10.0.0.1"):
        assert not _tokens.looks_signed(text)


def test_audience_and_issuer(tmp_path: Path) -> None:
    tokens = SignedTokens(settings(secret(tmp_path), audience="consoles", issuer="panel"))
    assert tokens.check(token(aud="consoles", iss="panel"))
    assert tokens.check(token(aud=["web", "consoles"], iss="panel"))
    assert denial(tokens, token(iss="panel")) == (401, "The token lacks the claim aud, which is required here.")
    assert denial(tokens, token(aud="web", iss="panel")) == (401, "The token was made for another audience.")
    assert denial(tokens, token(aud="consoles", iss="else")) == (401, "The token was made by another issuer.")
    assert denial(tokens, token(aud="consoles"))[0] == 401


def test_leeway(tmp_path: Path) -> None:
    tokens = SignedTokens(settings(secret(tmp_path), leeway_seconds=3600.0))
    assert tokens.check(token(exp=NOW - 60))
    assert tokens.check(token(nbf=NOW + 600))
    assert denial(tokens, token(exp=NOW - 4000))[0] == 401


def test_token_that_lives_too_long(tmp_path: Path) -> None:
    tokens = SignedTokens(settings(secret(tmp_path), most_seconds=7200.0))
    assert tokens.check(token())
    assert denial(tokens, token(exp=NOW + 100_000)) == (
        401,
        "The token lives longer than the 7200 seconds that are accepted here.",
    )


def pair(algorithm: str) -> tuple[Any, bytes, bytes]:
    """A new private key, and both halves in PEM."""
    private: Any
    if algorithm.startswith(("RS", "PS")):
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    elif algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, public, pem


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_key_pairs(tmp_path: Path, algorithm: str, caplog: pytest.LogCaptureFixture) -> None:
    private, public, pem = pair(algorithm)
    (tmp_path / "public").write_bytes(public)
    tokens = SignedTokens(settings(str(tmp_path / "public"), algorithm=algorithm))
    assert tokens.check(token(private, algorithm)).place == Place("domain", "web")
    assert denial(tokens, token(pair(algorithm)[0], algorithm))[0] == 401
    # The oldest trick: the public key, which anybody may have, taken for a secret
    head = f"{encoded({'alg': 'HS256'})}.{encoded(GOOD)}"
    mac = base64.urlsafe_b64encode(hmac.new(public, head.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    assert denial(tokens, f"{head}.{mac}") == (401, f"The token is not signed with {algorithm}.")
    assert not caplog.records
    (tmp_path / "private").write_bytes(pem)
    assert SignedTokens(settings(str(tmp_path / "private"), algorithm=algorithm)).check(token(private, algorithm))
    assert "is a private key" in caplog.text


@pytest.mark.parametrize(
    ("algorithm", "content", "words"),
    [
        ("HS256", "geheim", "too short: HS256 needs a secret of 32 bytes"),
        ("HS512", SECRET, "too short: HS512 needs a secret of 64 bytes"),
        ("RS256", SECRET, "no key for RS256"),
        ("EdDSA", "", "no key for EdDSA"),
        ("HS256", "x" * 70000, "no key"),
    ],
)
def test_keys_that_are_none(tmp_path: Path, algorithm: str, content: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        SignedTokens(settings(secret(tmp_path, content), algorithm=algorithm))
    assert not content or content not in str(caught.value)


def test_public_key_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(pair("ES256")[1])
    with pytest.raises(InputError, match="a secret, not a key pair's"):
        SignedTokens(settings(str(tmp_path / "key")))


def test_key_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read: No such file"):
        SignedTokens(settings(str(tmp_path / "key")))


def test_key_that_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The new one holds from then on; one that is none leaves the last one in place."""
    path = Path(secret(tmp_path))
    tokens = SignedTokens(settings(str(path)))
    assert tokens.check(token())
    path.write_text(OTHER)
    assert tokens.check(token(OTHER))
    assert denial(tokens, token())[0] == 401
    path.write_text("x")
    for _turn in range(3):
        assert tokens.check(token(OTHER))
    assert caplog.text.count("too short") == 1
    path.unlink()
    assert tokens.check(token(OTHER))
    path.write_text(SECRET)
    assert tokens.check(token())


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if these libraries were not installed."""
    wanted = builtins.__import__

    def import_(name: str, *arguments: Any) -> Any:
        if name.split(".")[0] in names:
            raise ImportError(name)
        return wanted(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", import_)


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = secret(tmp_path)
    without(monkeypatch, "jwt")
    with pytest.raises(MissingLibrary, match="install the package python3-jwt"):
        SignedTokens(settings(key))


def test_missing_cryptography(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = jwt.algorithms.get_default_algorithms()
    monkeypatch.setattr(jwt.algorithms, "get_default_algorithms", lambda: {"HS256": known["HS256"]})
    with pytest.raises(MissingLibrary, match="ES256 need the Python library cryptography"):
        SignedTokens(settings(secret(tmp_path), algorithm="ES256"))


# --- Good for one session ---------------------------------------------------------------------------------------------


class Clock:
    """The time, as a test wants it."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


USED = (410, "The token was good for one session, and was used already.")


def test_token_for_one_session(tmp_path: Path) -> None:
    tokens = SignedTokens(settings(secret(tmp_path), single_use=True))
    assert tokens.check(token(jti="1"))
    assert denial(tokens, token(jti="1")) == USED
    assert denial(tokens, token(jti="1", domain="db")) == USED
    assert tokens.check(token(jti="2"))
    assert denial(tokens, token()) == (401, "The token lacks the claim jti, which is required here.")
    for jti in ("", 5, ["1"]):
        assert denial(tokens, token(jti=jti))[0] == 401


def test_token_that_may_not_be_used_is_not_used_up(tmp_path: Path) -> None:
    tokens = SignedTokens(settings(secret(tmp_path), single_use=True))
    assert denial(tokens, token(OTHER, jti="1"))[0] == 401
    assert denial(tokens, token(jti="1", exp=NOW - 5))[0] == 401
    assert tokens.check(token(jti="1"))


def test_used_tokens_stay_used_over_a_restart(tmp_path: Path) -> None:
    used = tmp_path / "used"
    for turn in range(3):
        tokens = SignedTokens(settings(secret(tmp_path), single_use=True), used_file=str(used))
        for earlier in range(turn):
            assert denial(tokens, token(jti=f"geheim-{earlier}")) == USED
        assert tokens.check(token(jti=f"geheim-{turn}"))
    assert stat.S_IMODE(used.stat().st_mode) == 0o600
    assert "geheim" not in used.read_text()


def test_used_tokens_are_forgotten_once_they_have_expired(tmp_path: Path) -> None:
    clock = Clock()
    used = tmp_path / "used"
    tokens = SignedTokens(settings(secret(tmp_path), single_use=True), used_file=str(used), clock=clock)
    assert tokens.check(token(jti="1"))
    clock.now = LATER + 500
    assert denial(tokens, token(jti="1")) == USED, "the clock may be put back"
    clock.now = LATER + 1000
    assert tokens.check(token(jti="2", exp=LATER + 5000))
    assert tokens._used
    assert len(tokens._used._digests) == len(tokens._used._ends) == 1
    SignedTokens(settings(secret(tmp_path), single_use=True), used_file=str(used), clock=clock)
    assert len(used.read_text().splitlines()) == 1


def test_file_of_used_tokens_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tokens, "_SPARE_LINES", 10)
    clock = Clock()
    used = tmp_path / "used"
    tokens = SignedTokens(settings(secret(tmp_path), single_use=True), used_file=str(used), clock=clock)
    for number in range(200):
        tokens.check(token(jti=str(number), exp=LATER + 1000 * number))
        clock.now += 1000
    assert len(used.read_text().splitlines()) < 30
    again = SignedTokens(settings(secret(tmp_path), single_use=True), used_file=str(used), clock=clock)
    assert denial(again, token(jti="199", exp=LATER + 199_000)) == USED


def test_no_used_token_is_forgotten_for_want_of_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tokens, "MOST_USED", 2)
    tokens = SignedTokens(settings(secret(tmp_path), single_use=True))
    assert tokens.check(token(jti="1"))
    assert tokens.check(token(jti="2"))
    assert denial(tokens, token(jti="3"))[0] == 503
    assert denial(tokens, token(jti="1")) == USED


def test_use_that_can_not_be_noted(tmp_path: Path) -> None:
    """Then a token for one session opens none: it could open a second one after a restart."""
    folder = tmp_path / "state"
    folder.mkdir()
    tokens = SignedTokens(settings(secret(tmp_path), single_use=True), used_file=str(folder / "used"))
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    assert denial(tokens, token(jti="1"))[0] == 503
    folder.mkdir()
    assert tokens.check(token(jti="1")), "it was not used"
    with pytest.raises(InputError, match="can't be kept there: Is a directory"):
        SignedTokens(settings(secret(tmp_path), single_use=True), used_file=str(folder))


def test_two_processes_that_take_tokens_at_the_same_time(tmp_path: Path) -> None:
    """As while one hands over to the next: nothing that one of them has noted is lost."""
    used = str(tmp_path / "used")
    code = (
        "import sys; from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _tokens\n"
        "sys.stdin.readline()\n"
        "for number in range(200):\n"
        "    used = _tokens._Used(sys.argv[1], lambda: 0.0, 0.0)\n"
        "    used.take({'jti': f'{sys.argv[2]}-{number}', 'exp': 5})\n"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-B", "-c", code, used, name], stdin=subprocess.PIPE, env=environment, text=True
                )
            )
            for name in ("a", "b")
        ]
        for writer in writers:
            assert writer.stdin
            writer.stdin.write("go\n")
            writer.stdin.close()
        assert [writer.wait(SECONDS) for writer in writers] == [0, 0]
    assert len(set(Path(used).read_text().splitlines())) == 400


def test_damaged_file_of_used_tokens(tmp_path: Path) -> None:
    used = tmp_path / "used"
    tokens = SignedTokens(settings(secret(tmp_path), single_use=True), used_file=str(used))
    tokens.check(token(jti="1"))
    used.write_bytes(b"\xff\xfe\n\n123\nx y\n" + used.read_bytes() + b"99999999999 abc")
    again = SignedTokens(settings(secret(tmp_path), single_use=True), used_file=str(used))
    assert denial(again, token(jti="1")) == USED
    assert len(used.read_text().splitlines()) == 1


def test_socket_in_place_of_a_token_file(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert TokenFiles((str(tmp_path / "s"),)).find("one") is None
