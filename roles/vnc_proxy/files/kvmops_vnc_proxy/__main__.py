# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command: serve, check a configuration, make a token."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import uuid
from typing import Any

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError, MissingLibrary

from . import __version__, _loop, _service
from ._config import POWER, JwtSettings, load, missing_files

WRONG = 2
"""The exit status for what a person has to put right."""


def main(words: list[str] | None = None) -> int:
    """Do what the words say; return the exit status."""
    options = _parser().parse_args(words)
    _log_to_stderr()
    try:
        return int(options.action(options))
    except ConsoleError as error:
        print(error, file=sys.stderr)
        return WRONG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kvmops_vnc_proxy", description="A VNC proxy that heals.")
    parser.add_argument("--version", action="version", version=__version__)
    actions = parser.add_subparsers(dest="name", required=True)
    serve = actions.add_parser("serve", help="run the proxy")
    serve.set_defaults(action=_serve)
    check = actions.add_parser("check", help="tell whether a configuration can be used on this host")
    check.set_defaults(action=_check)
    token = actions.add_parser("token", help="make a signed token that opens one console")
    token.set_defaults(action=_token)
    for each in (serve, check, token):
        each.add_argument("--config", required=True, metavar="FILE", help="the configuration, in JSON")
    place = token.add_mutually_exclusive_group(required=True)
    place.add_argument("--domain", help="a domain's name or UUID")
    place.add_argument("--target", help="one of the configuration's targets")
    place.add_argument("--unix", metavar="PATH", help="a unix socket below tokens.allowed_sockets")
    place.add_argument("--host", help="a host of tokens.allowed_targets; needs --port")
    token.add_argument("--port", type=int, help="the host's port")
    token.add_argument("--seconds", type=int, default=60, help="how long it is good for (default: %(default)s)")
    token.add_argument("--user", help="for whom it is: for the audit log")
    token.add_argument("--power", choices=POWER, help="narrow the power policy")
    token.add_argument("--view-only", action="store_true", help="allow to look, and nothing else")
    token.add_argument("--key", metavar="FILE", help="the private key, where tokens.jwt.key is a public one")
    return parser


def _log_to_stderr() -> None:
    """One line an event. The journal has its own times, and takes the priority from the line's beginning."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("websockets").setLevel(logging.WARNING)


class _JournalFormatter(logging.Formatter):
    """Puts sd-daemon(3)'s priority before each line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format as the class says."""
        priority = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def _serve(options: argparse.Namespace) -> int:
    _service.step_aside()
    service = _service.Service(options.config)
    _loop.run(service.run())
    return 0


def _check(options: argparse.Namespace) -> int:
    mistakes = missing_files(load(options.config))
    if mistakes:
        raise InputError("\n".join(mistakes))
    print(f"{options.config} can be used.")
    return 0


# --- Tokens -----------------------------------------------------------------------------------------------------------


def _token(options: argparse.Namespace) -> int:
    settings = load(options.config)
    jwt = settings.targets.tokens.jwt
    if jwt is None:
        raise InputError(f"{options.config} has no tokens.jwt, so no signed tokens are taken there.")
    if (options.host is None) != (options.port is None):
        raise InputError("--host and --port belong together: give both, or neither.")
    if options.seconds <= 0 or (jwt.most_seconds is not None and options.seconds > jwt.most_seconds):
        raise InputError(f"--seconds {options.seconds} can't be: tokens.jwt.most_seconds is {jwt.most_seconds}.")
    print(make_token(_claims(options, jwt), jwt, options.key or jwt.key))
    return 0


def _claims(options: argparse.Namespace, jwt: JwtSettings) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iat": now,
        "nbf": now,
        "exp": now + options.seconds,
        "jti": uuid.uuid4().hex,
        "iss": jwt.issuer,
        "aud": jwt.audience,
        "sub": options.user,
        "domain": options.domain,
        "target": options.target,
        "unix": options.unix,
        "host": options.host,
        "port": options.port,
        "power": options.power,
        "view_only": options.view_only or None,
    }
    return {name: value for name, value in claims.items() if value is not None}


def make_token(claims: dict[str, Any], jwt: JwtSettings, key: str) -> str:
    """Sign the claims. Raises InputError, MissingLibrary."""
    try:
        import jwt as library
    except ImportError as error:
        raise MissingLibrary(
            "Signed tokens need the Python library PyJWT: install the package python3-jwt (Debian, Ubuntu, Fedora, "
            "RHEL) or python3-PyJWT (SUSE)."
        ) from error
    try:
        with open(key, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"The key {key} can't be read: {error.strerror}.") from error
    if jwt.algorithm.startswith("HS"):
        data = data.strip()
    try:
        return str(library.encode(claims, data, algorithm=jwt.algorithm))
    except Exception as error:  # PyJWT and cryptography have many
        raise InputError(
            f"{key} is no key that signs with {jwt.algorithm}; a public key can't sign: give the private one by --key."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
