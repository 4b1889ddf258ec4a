#!/usr/bin/env bash
# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# fetch-qemu.sh [DIR]: the QEMU of this release's backports, unpacked and not installed: DIR/usr/bin/qemu-system-x86_64.
#
# What is in DIR goes over / on a host of the lab, which has the machine's libraries. Takes some seven seconds.
# DIR (default: qemu-backports in ${KVMOPS_CACHE:-/var/cache/kvmops-console}) appears at the end, complete or not at all.
# Ends with status 3 where the machine's release has no backports with a QEMU, as Debian 13 in its first months.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

readonly dir=${1:-${KVMOPS_CACHE:-/var/cache/kvmops-console}/qemu-backports}
readonly binary=usr/bin/qemu-system-x86_64
readonly packages=(qemu-system-x86 qemu-system-common qemu-system-data seabios)

say() { printf 'qemu of the backports: %s\n' "$*"; }
fail() { printf 'qemu of the backports: %s\n' "$*" >&2; exit 1; }
none() { say "$*"; exit 3; }

is_there() { "$dir/$binary" --version >/dev/null 2>&1; }

# The mirrors that apt has been told of for this release, asked for its backports, too.
source_lines() {
  # shellcheck disable=SC2016  # these are apt's variables, not the shell's
  apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
    awk -F'|' -v release="$1" '
      $1 == "Debian" && $3 == release && $4 == "main" {
        start = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " $2 " "
        print start release " main"
        print start release "-backports main"
      }' | sort -u
}

main() {
  if is_there; then say "already in $dir"; return; fi
  mkdir -p "$(dirname "$dir")"
  exec 9>"$dir.lock"
  flock 9
  if is_there; then say "already in $dir"; return; fi
  local release
  # shellcheck disable=SC1091  # the machine's
  release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")

  work=$(mktemp -d "$dir.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/out"
  source_lines "$release" >"$work/apt/sources.list"
  [[ -s "$work/apt/sources.list" ]] || none "this machine's apt knows no Debian mirror for its own release."
  local apt=(-o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::Cache=$work/apt"
    -o "Dir::State::lists=$work/apt/lists" -o APT::Sandbox::User=root)
  say "fetching it"
  apt-get "${apt[@]}" update -qq >"$work/update.log" 2>&1 ||
    { tail -n 5 "$work/update.log" >&2; fail "the mirror's lists can't be had; apt's last words are above."; }
  apt-cache "${apt[@]}" madison qemu-system-x86 | grep -q -- "$release-backports/" || none "$release-backports has no QEMU."
  (cd "$work/apt/archives" && apt-get "${apt[@]}" -t "$release-backports" download -qq "${packages[@]}" >"$work/apt.log" 2>&1) ||
    { tail -n 25 "$work/apt.log" >&2; fail "apt-get could not download ${packages[*]}; its last lines are above."; }
  local package
  for package in "$work"/apt/archives/*.deb; do dpkg-deb --extract "$package" "$work/out"; done
  # What a host has no use for: it is copied to memory.
  (cd "$work/out/usr" && find bin ! -name "${binary##*/}" -type f -delete && rm -rf share/{applications,doc,doc-base,icons,lintian,man})
  "$work/out/$binary" --version >"$work/version" 2>&1 || fail "what was fetched does not run: $(head -n 1 "$work/version")"
  chmod 755 "$work/out"
  rm -rf "$dir"
  mv -T "$work/out" "$dir"
  say "in $dir"
}

main
