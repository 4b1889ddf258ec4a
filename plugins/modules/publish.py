# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation only: the work is done on the controller, by plugins/action/publish.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: publish
short_description: Put files of the controller into a folder, or to a web server
version_added: 1.0.0
description:
  - Brings reports and walls out of a controller that is thrown away, like the container of an AWX job.
  - Sends them by HTTP PUT, which WebDAV, nginx, Artifactory, Nexus, GitLab's package registry, S3 by presigned URLs and
    Azure's blobs by shared access signatures take. Or copies them into a folder, such as a volume.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
options:
  files:
    description:
      - What to publish, paths on the controller. A folder stands for all files below it, but for hidden ones.
      - A relative path is taken from the folder of the playbook.
    type: list
    elements: path
    required: true
  root:
    description:
      - The folder that the names of the files are relative to.
      - By default a file has its own name alone, and files below a folder of O(files) are named relative to that one.
    type: path
  to:
    description:
      - Where to. A path is a folder on the controller, made when it is not there.
      - A URL whose path ends with a slash is a folder, too, and every file is put below it. Its query is sent with
        each.
      - Any other URL is that of one file, such as a presigned one, and takes the first of O(files). RV(left_out) tells
        of the others.
      - A user and a password in a URL are sent by basic authentication.
    type: str
    required: true
  token:
    description:
      - A bearer token for a web server, sent in the header C(Authorization).
    type: str
  headers:
    description:
      - More headers for a web server, such as C(x-ms-blob-type) with V(BlockBlob).
    type: dict
    default: {}
  validate_certs:
    description:
      - Whether the web server's certificate has to be valid.
    type: bool
    default: true
  ca_path:
    description:
      - A file of PEM certificates to trust instead of the system's.
    type: path
  timeout:
    description:
      - How many seconds a web server may take for an answer.
    type: float
    default: 30.0
attributes:
  action:
    description: Has an action plugin of the same name, which does all the work.
    support: full
  check_mode:
    support: full
  delegation:
    description: Runs on the controller, whatever C(delegate_to) says.
    support: none
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Files in a folder that are the same are left alone. A web server is sent all of them each time.
  platform:
    platforms: posix
    support: full
notes:
  - The query of a URL, its user and its password, O(token) and O(headers) are in no result and in no message. Where the
    path of a URL is a secret by itself, and wherever the arguments of tasks are logged (ansible-runner, and so AWX,
    logs those of every task), set C(no_log=true) on the task.
  - Redirects are not followed.
  - Pictures of screens may show secrets, and reports tell where consoles are open. Choose a place that only the right
    people can read.
seealso:
  - module: kvmops.console.report
  - module: kvmops.console.screen_wall
"""

EXAMPLES = r"""
- name: Copy a report to a volume
  kvmops.console.publish:
    files:
      - console-report/console-report.html
    to: /mnt/reports

- name: Put a wall of screens on a web server
  kvmops.console.publish:
    files:
      - /srv/wall
    to: https://files.example.com/consoles/
    token: "{{ files_token }}"
  no_log: true

- name: Put a report to S3, by a URL that was signed for it
  kvmops.console.publish:
    files:
      - console-report/console-report.html
    to: "{{ presigned_url }}"
  no_log: true
"""

RETURN = r"""
published:
  description: Where the files are now, URLs without query and user.
  returned: success
  type: list
  elements: str
  sample: ["https://files.example.com/consoles/index.html"]
left_out:
  description: The names of files that a URL of one file could not take.
  returned: success
  type: list
  elements: str
  sample: []
"""
