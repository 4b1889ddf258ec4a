# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Upstream's own unit tests, on files that are patched and on files that are not: they find no difference.

Debian's source packages have them; npm's packages have none. A release that Debian never had, or has no more the source
of, is put to the tests of a release next to it. What these expect has changed since, so that some fail: the same ones
with the patch as without it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _novnc_patch
from ansible_collections.kvmops.console.tests.browser import chromium
from ansible_collections.kvmops.console.tests.browser.novnc import sources

KARMA = ("karma@6.4.4", "karma-chrome-launcher@3.2.0")
NEEDS = {
    "1.3.0": (
        *("karma-mocha@2.0.1", "mocha@10.8.2", "karma-sinon-chai@2.0.2", "chai@4.5.0", "sinon@9.2.4"),
        *("sinon-chai@3.7.0", "lolex@6", "@chiragrupani/karma-chromium-edge-launcher@2.5.1"),
        "karma-mocha-reporter@2.2.5",
    ),
    "1.6.0": (
        *("karma-mocha@2.0.1", "mocha@11.8.0", "chai@5.3.3", "sinon@19.0.5", "sinon-chai@4.0.1"),
        *("@chiragrupani/karma-chromium-edge-launcher@2.5.1", "karma-mocha-reporter@2.2.5"),
    ),
}
"""What each release's tests were written for, and what of it still works together."""

NEIGHBOURS = {"1.2.0": ("1.3.0", "test.rfb.js"), "1.4.0": ("1.3.0", "test.rfb.js"), "1.7.0": ("1.6.0", "test.*.js")}
"""Releases without tests of their own, and the tests that they are put to: of which release, and which of them."""

SETTINGS = """
const fs = require('fs');
const theirs = require('./' + ['karma.conf.cjs', 'karma.conf.js'].find(name => fs.existsSync(name)));
function Counts() {
  const failures = [];
  this.onSpecComplete = (browser, told) => {
    if (!told.success && !told.skipped) { failures.push([...told.suite, told.description].join(' ')); }
  };
  this.onRunComplete = (browsers, told) => fs.writeFileSync('counts.json', JSON.stringify(
    {passed: told.success, failed: told.failed, skipped: told.skipped, failures: failures.sort()}));
}
module.exports = config => {
  theirs(config);
  config.set({
    basePath: __dirname, browsers: ['Headless'], autoWatch: false, singleRun: true, reporters: ['counts'],
    client: {mocha: {timeout: 60000}}, browserNoActivityTimeout: 120000,
    plugins: ['karma-*', '@chiragrupani/karma-*', {'reporter:counts': ['type', Counts]}],
    customLaunchers: {Headless: {base: 'ChromeHeadless',
      flags: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run']}},
  });
};
"""


def tree_of(version: str, folder: Path) -> Path:
    """Upstream's tree with what its tests need."""
    if chromium.program() is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    tree = folder / version
    shutil.copytree(sources.from_debian(version) / "source", tree)
    modules = sources.node_modules(f"karma-{version}", *KARMA, *NEEDS[version]) / "node_modules"
    # Karma looks for plugins and files below the tree itself, and follows no symbolic links.
    shutil.copytree(modules, tree / "node_modules", symlinks=True, copy_function=_link)
    (tree / "ours.cjs").write_text(SETTINGS, encoding="utf-8")
    return tree


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)


def counts(tree: Path, script: Optional[str]) -> dict[str, Any]:
    """What the tests find with `script` as rfb.js, None for the original: counts, and the names of those that fail."""
    path = tree / "core/rfb.js"
    original = path.read_bytes()
    (tree / "counts.json").unlink(missing_ok=True)
    try:
        if script is not None:
            path.write_bytes(_novnc_patch.encode(script))
        done = subprocess.run(
            ["node", "node_modules/karma/bin/karma", "start", "ours.cjs"],
            cwd=tree,
            env={**os.environ, "CHROME_BIN": str(chromium.program())},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    finally:
        path.write_bytes(original)
    report = tree / "counts.json"
    assert report.exists(), done.stdout + done.stderr
    return dict(json.loads(report.read_text(encoding="utf-8")))


def scripts(tree: Path) -> tuple[str, str]:
    """Its rfb.js with the patch, in both modes."""
    data = (tree / "core/rfb.js").read_bytes()
    text, sha256 = _novnc_patch.decode(data), _novnc_patch.digest(data)
    return _novnc_patch.add(text, "tolerant", sha256), _novnc_patch.add(text, "full", sha256)


@pytest.mark.parametrize("version", sources.TESTED)
def test_upstream_finds_no_difference(tmp_path: Path, version: str) -> None:
    tree = tree_of(version, tmp_path)
    tolerant, full = scripts(tree)
    before = counts(tree, None)
    assert before["failed"] == 0
    assert before["passed"] > 300
    assert counts(tree, tolerant) == before
    assert counts(tree, full) == before
    broken = tolerant.replace("encoding !== CHANGE", "encoding === CHANGE")
    assert broken != tolerant
    assert counts(tree, broken)["failed"] > 0, "they would notice a patch that is wrong"


@pytest.mark.parametrize("version", list(NEIGHBOURS))
def test_neighbours_tests_find_no_difference(tmp_path: Path, version: str) -> None:
    neighbour, fitting = NEIGHBOURS[version]
    tree = tree_of(neighbour, tmp_path)
    for path in (tree / "tests").glob("test.*.js"):
        if not path.match(fitting):
            path.unlink()
    shutil.rmtree(tree / "core")
    shutil.copytree(sources.from_npm(version) / "core", tree / "core")
    before = counts(tree, None)
    assert before["passed"] > 200
    for script in scripts(tree):
        assert counts(tree, script) == before
