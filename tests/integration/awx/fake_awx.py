# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As much of AWX's REST API as the modules of awx.awx need: keeps what it is sent, and tells it as AWX would.

Nothing runs here. What AWX refuses is refused: a survey that is none, a playbook that the project has not, a node that
leads nowhere, whoever has no token.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from ansible_collections.kvmops.console.tests.unit.awx import rules

Json = dict[str, Any]

TOKEN = "token-of-an-administrator"
ENCRYPTED = "$encrypted$"
MACHINE_SECRETS = {"password", "ssh_key_data", "ssh_key_unlock", "become_password"}
PATH = re.compile(r"^/api/v2/(\w+)/(?:(\d+)/(?:(\w+)/)?)?$")
TEMPLATES = ("job_templates", "workflow_job_templates", "projects")
APPROVALS = "workflow_approval_templates"
_SCHEDULES = ("schedules", "unified_job_template")
CASCADE = {
    "job_templates": (_SCHEDULES,),
    "workflow_job_templates": (_SCHEDULES, ("workflow_job_template_nodes", "workflow_job_template")),
    "inventories": (("hosts", "inventory"), ("inventory_sources", "inventory")),
}
"""What goes with what: where, and the key that has the number."""
TYPES = {"inventories": "inventory", "inventory_sources": "inventory_source"}


class Write(NamedTuple):
    """A request that changes something."""

    method: str
    path: str
    data: Json


class Refused(Exception):
    """AWX says no."""

    def __init__(self, status: int, said: Json) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


class Awx:
    """What is in it. `writes` is what was sent, in order."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.objects: dict[str, list[Json]] = {}
        self.links: dict[tuple[str, int, str], list[int]] = {}
        self.surveys: dict[str, Json] = {}
        self.writes: list[Write] = []
        self.url = ""
        self._last = 0
        self._add("organizations", {"name": "Default"})
        fields = [{"id": name, "secret": True} for name in MACHINE_SECRETS]
        self._add("credential_types", {"name": "Machine", "inputs": {"fields": fields}})

    def named(self, endpoint: str) -> dict[str, Json]:
        """All objects of a kind by name, as they are."""
        return {each.get("identifier") or each["name"]: each for each in self.objects.get(endpoint, [])}

    def linked(self, endpoint: str, name: str, link: str) -> list[str]:
        """The names of what an object is linked to."""
        number = self.named(endpoint)[name]["id"]
        other = "workflow_job_template_nodes" if link.endswith("_nodes") else link.split("_templates_")[0]
        other = {"notification": "notification_templates"}.get(other, other)
        numbers = self.links.get((endpoint, number, link), [])
        return [each for each, found in self.named(other).items() if found["id"] in numbers]

    def survey(self, endpoint: str, name: str) -> Json:
        """The survey of a template."""
        return self.surveys[f"{endpoint}/{self.named(endpoint)[name]['id']}"]

    def _add(self, endpoint: str, data: Json) -> Json:
        self._last = number = self._last + 1
        kind = TYPES.get(endpoint, endpoint[:-1])
        found = {**data, "id": number, "type": kind, "url": f"/api/v2/{endpoint}/{number}/", "related": {}}
        found["summary_fields"] = {}
        if endpoint in ("job_templates", "workflow_job_templates"):
            found["related"] = {"survey_spec": f"{found['url']}survey_spec/"}
        if endpoint == "projects":
            found["scm_revision"] = ""
        self.objects.setdefault(endpoint, []).append(found)
        return found

    def _one(self, endpoint: str, number: str) -> Json:
        found = [each for each in self.objects.get(endpoint, []) if each["id"] == int(number)]
        if not found:
            raise Refused(404, {"detail": "Not found."})
        return found[0]

    def get(self, path: str, query: Json) -> Json:
        """What AWX tells."""
        endpoint, number, part = _parts(path)
        if part == "survey_spec":
            return self.surveys.get(f"{endpoint}/{number}", {})
        if part:
            self._one(endpoint, number)
            numbers = self.links.get((endpoint, int(number), part), [])
            return _page([{"id": each} for each in numbers])
        if number:
            return self._told(endpoint, self._one(endpoint, number))
        kinds = TEMPLATES if endpoint == "unified_job_templates" else (endpoint,)
        everything = [self._told(kind, each) for kind in kinds for each in self.objects.get(kind, [])]
        answer = _page([each for each in everything if self._matches(each, query)])
        if endpoint == "inventories":
            for each in [each for each in self.objects.get(endpoint, []) if each.get("pending_deletion")]:
                self._remove(endpoint, each)
        return answer

    def _matches(self, found: Json, query: Json) -> bool:
        said = {**found, "organization__name": self._organization(found)}
        return all(str(said.get(name)) == value for name, value in query.items() if value != "None")

    def _organization(self, found: Json) -> str:
        return "".join(each["name"] for each in self._of("organizations", "id", found.get("organization", 0)))

    def _told(self, endpoint: str, found: Json) -> Json:
        """An object without its secrets."""
        if endpoint != "credentials":
            return found
        fields = self._one("credential_types", str(found["credential_type"]))["inputs"]["fields"]
        secret = {field["id"] for field in fields if field.get("secret")}
        inputs = found.get("inputs", {})
        return {**found, "inputs": {key: ENCRYPTED if key in secret else inputs[key] for key in inputs}}

    def post(self, path: str, data: Json) -> tuple[int, Json]:
        """Take something new, or link two things."""
        endpoint, number, part = _parts(path)
        self.writes.append(Write("POST", path, data))
        if part == "survey_spec":
            complaints = rules.complaints(data)
            if complaints:
                raise Refused(400, {"error": " ".join(complaints)})
            self.surveys[f"{endpoint}/{number}"] = data
            return 200, {}
        if part == "create_approval_template":
            approval = self._add(APPROVALS, data)
            node = self._one(endpoint, number)
            node["unified_job_template"] = approval["id"]
            node["related"]["unified_job_template"] = approval["url"]
            return 201, approval
        if part:
            self._link((endpoint, int(number), part), data)
            return 204, {}
        self._check(endpoint, data)
        return 201, self._told(endpoint, self._add(endpoint, data))

    def _link(self, key: tuple[str, int, str], data: Json) -> None:
        self._one(key[0], str(key[1]))
        if key[0] == APPROVALS:
            raise Refused(404, {"detail": "Not found."})
        numbers = self.links.setdefault(key, [])
        if data.get("disassociate"):
            numbers.remove(data["id"])
        else:
            numbers.append(data["id"])

    def _check(self, endpoint: str, data: Json) -> None:
        if endpoint == "job_templates" and not (self.checkout / data["playbook"]).is_file():
            raise Refused(400, {"playbook": ["Playbook not found for project."]})
        if endpoint == "schedules" and "RRULE:" not in data["rrule"]:
            raise Refused(400, {"rrule": ["RRULE required in rrule."]})

    def delete(self, path: str) -> int:
        """Take something away, and what goes with it; an inventory goes later. Returns the status."""
        endpoint, number, _part = _parts(path)
        self.writes.append(Write("DELETE", path, {}))
        found = self._one(endpoint, number)
        if endpoint == "inventories":
            if found.get("pending_deletion"):
                raise Refused(400, {"error": "Inventory is already pending deletion."})
            found["pending_deletion"] = True
            return 202
        if endpoint == "credential_types" and self._of("credentials", "credential_type", found["id"]):
            raise Refused(403, {"detail": "Credential type in use."})
        self._remove(endpoint, found)
        return 204

    def _of(self, endpoint: str, name: str, number: int) -> list[Json]:
        """The objects that belong to another."""
        return [each for each in self.objects.get(endpoint, []) if each.get(name) == number]

    def _remove(self, endpoint: str, found: Json) -> None:
        self.objects[endpoint].remove(found)
        for other, name in CASCADE.get(endpoint, ()):
            for each in self._of(other, name, found["id"]):
                self._remove(other, each)
        if endpoint == "workflow_job_template_nodes":
            for each in self._of(APPROVALS, "id", found["unified_job_template"]):
                self._remove(APPROVALS, each)

    def patch(self, path: str, data: Json) -> Json:
        """Change something."""
        endpoint, number, _part = _parts(path)
        self.writes.append(Write("PATCH", path, data))
        found = self._one(endpoint, number)
        found.update(data)
        return self._told(endpoint, found)


def _parts(path: str) -> tuple[str, str, str]:
    found = PATH.match(path)
    if not found:
        raise Refused(404, {"detail": "Not found."})
    endpoint, number, part = found.groups(default="")
    return endpoint, number, part


def _page(results: list[Json]) -> Json:
    return {"count": len(results), "next": None, "results": results}


@contextmanager
def serve(checkout: Path) -> Iterator[Awx]:
    """An empty AWX on this machine, whose projects have the files of `checkout`."""
    awx = Awx(checkout)

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            try:
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise Refused(401, {"detail": "Authentication credentials were not provided."})
                if self.command == "GET":
                    status, said = 200, awx.get(parts.path, dict(parse_qsl(parts.query)))
                elif self.command == "POST":
                    status, said = awx.post(parts.path, json.loads(body))
                elif self.command == "DELETE":
                    status, said = awx.delete(parts.path), {}
                else:
                    status, said = 200, awx.patch(parts.path, json.loads(body))
            except Refused as refused:
                status, said = refused.status, refused.said
            answer = b"" if status == 204 else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("X-API-Product-Name", "AWX")
            self.send_header("X-API-Product-Version", "24.6.1")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            """To nobody."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        awx.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield awx
        finally:
            server.shutdown()
            thread.join()
