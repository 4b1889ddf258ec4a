# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Incus with real virtual machines, and ways to run modules against it."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.kvmops.console.tests.lab.incus.incuslab import Incus

RUN_MODULE = Path(__file__).resolve().parent.parent / "run_module.py"
Result = dict[str, Any]


class Site(NamedTuple):
    """An Incus that takes screenshots. In `default` and in the project `blog` there is a machine `web`, and more."""

    incus: Incus
    store: Path

    def start(self, **arguments: Any) -> subprocess.Popen[str]:
        """Begin to run incus_screenshot; by the unix socket, when nothing else is said."""
        way = {} if "url" in arguments else {"socket_path": self.incus.socket}
        process = subprocess.Popen(
            [sys.executable, "-B", str(RUN_MODULE), "incus_screenshot", "0", "0"],
            env={**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"store": str(self.store), **way, **arguments}))
        process.stdin.close()
        process.stdin = None
        return process

    def shoot(self, **arguments: Any) -> Result:
        """What incus_screenshot returns."""
        return result_of(self.start(**arguments))

    def over_https(self, client: Client, **arguments: Any) -> Result:
        """The same over HTTPS, with the server pinned by its certificate unless something else is said."""
        if not {"fingerprint", "ca_path"}.intersection(arguments):
            arguments.setdefault("server_cert", str(self.incus.folder / "server.crt"))
        return self.shoot(client_cert=client.cert, client_key=client.key, **arguments)


class Client(NamedTuple):
    """A client certificate: files, and base64 of its DER."""

    cert: str
    key: str
    der: str


def result_of(process: subprocess.Popen[str]) -> Result:
    """What a module returned."""
    out, errors = process.communicate(timeout=120)
    try:
        return dict(json.loads(out))
    except ValueError:
        raise AssertionError(f"no result: {out}{errors}") from None


def make_client(folder: Path, name: str) -> Client:
    """A client certificate of its own making, as Incus's client has one."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(key, hashes.SHA384())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.crt").write_bytes(pem)
    (folder / f"{name}.key").write_bytes(private)
    der = base64.b64encode(ssl.PEM_cert_to_DER_cert(pem.decode())).decode()
    return Client(str(folder / f"{name}.crt"), str(folder / f"{name}.key"), der)


@pytest.fixture(scope="session")
def running() -> Iterator[Incus]:
    with Incus() as incus:
        incus.mend()
        incus.project("blog")
        incus.vm("web", "HELLO INCUS")
        incus.vm("web", "THE BLOG", project="blog")
        incus.vm("off", start=False)
        incus.container("box")
        yield incus


@pytest.fixture
def site(running: Incus, tmp_path: Path) -> Site:
    return Site(running, tmp_path / "store")


@pytest.fixture(scope="session")
def url(running: Incus) -> str:
    return running.listen()


@pytest.fixture(scope="session")
def trusted(running: Incus, tmp_path_factory: pytest.TempPathFactory) -> Client:
    client = make_client(tmp_path_factory.mktemp("trusted"), "trusted")
    running.trust("trusted", client.der)
    return client


@pytest.fixture(scope="session")
def restricted(running: Incus, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A client that may see the project `blog` only."""
    client = make_client(tmp_path_factory.mktemp("restricted"), "restricted")
    running.trust("restricted", client.der, "blog")
    return client


@pytest.fixture
def stranger(tmp_path: Path) -> Client:
    return make_client(tmp_path, "stranger")
