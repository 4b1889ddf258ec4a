#!/usr/bin/env bash
# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# build-qemu.sh [PREFIX]: builds the QEMU that has the VNC power-control bug, 7.2.0, as upstream released it.
#
# The source is the orig tarball of Debian's 7.2 package: upstream 7.2.0 without the firmware blobs; Debian's stable
# updates, among them the mend, come as patches beside it and are not applied. Takes some four minutes on two cores.
# PREFIX (default: qemu-7.2.0 in ${KVMOPS_CACHE:-/var/cache/kvmops-console}) appears at the end, complete or not at all.
# QEMU_TARBALL=FILE builds from a tarball that is already there, for machines whose package sources hold no 7.2.
set -euo pipefail
# A python3 or a meson that somebody put in front of the distribution's has none of the modules that the build needs.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
unset PYTHONPATH PYTHONHOME

readonly version=7.2.0
readonly prefix=${1:-${KVMOPS_CACHE:-/var/cache/kvmops-console}/qemu-$version}
readonly packages=(build-essential ninja-build meson pkg-config python3 python3-venv perl xz-utils libglib2.0-dev libpixman-1-dev
  libpng-dev zlib1g-dev libfdt-dev libgnutls28-dev nettle-dev libsasl2-dev seabios qemu-system-data)

say() { printf 'qemu %s: %s\n' "$version" "$*"; }
fail() { printf 'qemu %s: %s\n' "$version" "$*" >&2; exit 1; }

is_built() { [[ "$("$1/bin/qemu-system-x86_64" --version 2>/dev/null)" == "QEMU emulator version $version"* ]]; }

# run LOG COMMAND...: quiet when it works, the end of its output when it does not.
run() {
  local log=$1; shift
  "$@" >"$log" 2>&1 && return
  tail -n 25 "$log" >&2
  fail "'$1' failed; its last lines are above."
}

install_packages() {
  local package missing=()
  for package in "${packages[@]}"; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  local install=(apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=600 "${missing[@]}")
  "${install[@]}" >"$work/apt.log" 2>&1 && return
  run "$work/update.log" apt-get update -qq
  run "$work/apt.log" "${install[@]}"
}

# Every archive that apt has been told of, as deb-src lines: sources.list and deb822 alike, since apt itself is asked.
# The distribution's own keyring vouches for each. A Debian mirror is asked for bookworm too, the release that has 7.2.
source_lines() {
  # shellcheck disable=SC2016  # these are apt's variables, not the shell's
  apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
    awk -F'|' '
      $4 != "main" || ($1 != "Debian" && $1 != "Ubuntu") { next }
      { start = "deb-src [signed-by=/usr/share/keyrings/" tolower($1) "-archive-keyring.gpg] " $2 " " }
      { print start $3 " main" }
      $1 == "Debian" && $3 !~ /-/ { print start "bookworm main" }' | sort -u
}

fetch_source() {
  mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial"
  source_lines >"$work/apt/sources.list"
  [[ -s "$work/apt/sources.list" ]] ||
    fail "apt knows no package source: run 'apt-get update', or name a tarball of qemu $version with QEMU_TARBALL=FILE."
  local apt=(-o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::Cache=$work/apt"
    -o "Dir::State::lists=$work/apt/lists" -o APT::Sandbox::User=root)
  # An archive without sources is no reason to stop: the others may have them.
  apt-get "${apt[@]}" update -qq >"$work/update.log" 2>&1 || true
  local found
  found=$(apt-cache "${apt[@]}" showsrc --only-source qemu 2>/dev/null | sed -n 's/^Version: \(\(.*:\)\?7\.2+dfsg-.*\)$/\1/p' | sort -uV | tail -n 1) || true
  [[ -n "$found" ]] ||
    fail "no package source of this machine holds QEMU 7.2's source: name a tarball of qemu $version with QEMU_TARBALL=FILE."
  (cd "$work" && run "$work/source.log" apt-get "${apt[@]}" source -qq --download-only "qemu=$found")
  tarball=$(find "$work" -maxdepth 1 -name 'qemu_7.2+dfsg.orig.tar.*' ! -name '*.asc' -print -quit)
  [[ -n "$tarball" ]] || fail "the source package $found came without its orig tarball."
}

configure() {
  mkdir -p "$work/src/build"
  tar -xf "$tarball" -C "$work/src" --strip-components=1
  [[ "$(cat "$work/src/VERSION")" == "$version" ]] || fail "$tarball holds version $(cat "$work/src/VERSION")."
  # The tarball has no firmware: leave it out of the build and use the distribution's.
  sed -i "/^subdir('pc-bios')/d; s/^unpack_edk2_blobs = false/&\nroms = []/" "$work/src/meson.build"
  cd "$work/src/build"
  run "$work/configure.log" ../configure \
    --target-list=x86_64-softmmu --without-default-features --enable-system --enable-tcg --enable-kvm --enable-vnc --enable-png \
    --enable-gnutls --enable-nettle --enable-vnc-sasl --enable-fdt=system --disable-docs --disable-tools --disable-werror \
    --disable-install-blobs
}

compile() {
  # One line for every tenth of the way, whether or not there is a terminal.
  # By the shell: mawk waits for much more than a line. The compiler quotes lines of the source that begin with a number.
  local percent step=0
  NINJA_STATUS='%p ' ninja qemu-system-x86_64 2>&1 | tee "$work/ninja.log" |
    while read -r percent _; do
      [[ $percent =~ ^([0-9]+)%$ ]] && ((BASH_REMATCH[1] >= step + 10)) || continue
      step=$((BASH_REMATCH[1] / 10 * 10))
      say "compiled $step %"
    done ||
    { tail -n 25 "$work/ninja.log" >&2; fail "the compilation failed; its last lines are above."; }
}

# QEMU looks for firmware and keymaps in ../share/qemu beside its binary. Copies, so that the result stands alone.
collect() {
  local share=$work/out/share/qemu
  install -D -s -m 755 qemu-system-x86_64 "$work/out/bin/qemu-system-x86_64"
  mkdir -p "$share"
  cp -L /usr/share/seabios/*.bin "$share/"
  cp -rL /usr/share/qemu/keymaps "$share/"
  find -L /usr/share/qemu -maxdepth 1 \( -name 'kvmvapic.bin' -o -name 'linuxboot*.bin' -o -name 'multiboot*.bin' \) \
    -exec cp -L {} "$share/" \;
  chmod -R u=rwX,go=rX "$work/out"
  is_built "$work/out" || fail "what was built does not run, or is not version $version."
}

main() {
  if is_built "$prefix"; then say "already in $prefix"; return; fi
  mkdir -p "$(dirname "$prefix")"
  exec 9>"$prefix.lock"
  flock -n 9 || { say "another build is running, waiting for it"; flock 9; }
  if is_built "$prefix"; then say "already in $prefix"; return; fi
  ((EUID == 0)) || fail "run this as root, or ask somebody who is: it installs what the build needs."
  command -v apt-get >/dev/null || fail "this needs a Debian or Ubuntu machine: apt-get is missing."

  work=$(mktemp -d "$prefix.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  install_packages
  tarball=${QEMU_TARBALL:-}
  if [[ -z "$tarball" ]]; then say "fetching the source"; fetch_source; fi
  say "configuring"
  configure
  say "compiling"
  compile
  collect
  chmod 755 "$work/out"
  rm -rf "$prefix"
  mv -T "$work/out" "$prefix"
  say "built in $prefix"
}

main
