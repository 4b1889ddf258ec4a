# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The address of a script in pages."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _novnc_pages as pages
from ansible_collections.kvmops.console.plugins.module_utils._novnc_patch import PatchRefused

TAG, OTHER = "0123456789ab", "ba9876543210"

PAGE = """<!DOCTYPE html>
<html><head>
<!--[if IE]><script src="app/firebug.js"></script><![endif]-->
<script src="app/error-handler.js"></script>
<script type="module" crossorigin="anonymous" src="app/ui.js"></script>
</head></html>
"""
LITE = "<html><script type=module>\nimport RFB from './core/rfb.js';\n</script></html>"
TEMPLATE = '<html><SCRIPT src="/novnc/app.js?ver=1.6.0-2"></script><script src="/other.js"></script></html>'
BARE = "<html><script defer src='app.js'></script></html>"


@pytest.mark.parametrize("page", [PAGE, LITE], ids=["page", "lite"])
def test_map(page: str) -> None:
    assert pages.loads_module(page)
    tagged = pages.with_map(page, TAG)
    assert f'{{"./core/rfb.js":"./core/rfb.js?kvmops={TAG}"}}' in tagged
    assert tagged.index("importmap") < tagged.index("module")
    assert pages.tag_in(page) is None
    assert pages.tag_in(tagged) == TAG
    assert pages.with_map(tagged, TAG) == tagged
    assert pages.tag_in(pages.with_map(tagged, OTHER)) == OTHER
    assert pages.without_tag(pages.with_map(tagged, OTHER)) == page


def test_map_is_not_put_into_a_comment() -> None:
    tagged = pages.with_map(PAGE, TAG)
    assert "<!--[if IE]><script src" in tagged
    assert '<script type="importmap"' in tagged.partition("<![endif]-->")[2].strip()[:24]


@pytest.mark.parametrize(("page", "name"), [(TEMPLATE, "app.js"), (BARE, "app.js")], ids=["template", "bare"])
def test_query(page: str, name: str) -> None:
    assert pages.loads_script(page, name)
    assert not pages.loads_script(page, "pp.js")
    assert not pages.loads_module(page)
    tagged = pages.with_query(page, name, TAG)
    assert tagged.count(TAG) == 1
    assert "other.js?" not in tagged
    assert pages.tag_in(tagged) == TAG
    assert pages.with_query(tagged, name, TAG) == tagged
    assert pages.without_tag(pages.with_query(tagged, name, OTHER)) == page


def test_query_goes_behind_what_is_there() -> None:
    assert f'src="/novnc/app.js?ver=1.6.0-2&kvmops={TAG}"' in pages.with_query(TEMPLATE, "app.js", TAG)
    assert f"src='app.js?kvmops={TAG}'" in pages.with_query(BARE, "app.js", TAG)


def test_pages_of_others() -> None:
    assert not pages.loads_module("<html><script src=app/ui.js></script></html>"), "no module"
    assert not pages.loads_module("<html><!-- <script type=module>import 'core/rfb.js'</script> --></html>")
    assert not pages.loads_module("<html><script type=module src=main.js></script></html>")
    assert not pages.loads_script("<html><!-- <script src='app.js'></script> --></html>", "app.js")


def test_pages_that_cannot_be_told() -> None:
    with pytest.raises(PatchRefused, match="an import map of its own"):
        pages.with_map('<script type="importmap">{}</script>' + LITE, TAG)
    with pytest.raises(PatchRefused, match="a base address of its own"):
        pages.with_map('<base href="/x/">' + LITE, TAG)
