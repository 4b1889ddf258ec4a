#!/usr/bin/env bash
# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# build-guest.sh [DIR]: a Linux guest in some 9 MB, the distribution's kernel and a busybox initramfs: DIR/vmlinuz and DIR/initrd.gz.
# DIR (default: guest in ${KVMOPS_CACHE:-/var/cache/kvmops-console}) appears at the end, complete or not at all.
#
# Under TCG it prints LAB GUEST READY on tty1 and ttyS0 some six seconds after its start, has a shell on tty1, loads the drivers
# of a USB tablet, and powers off on the ACPI button. Boot it with 'console=tty1 console=ttyS0 nokaslr no_timer_check quiet' and 256 MiB.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive

readonly dir=${1:-${KVMOPS_CACHE:-/var/cache/kvmops-console}/guest}
# What the guest can load beside what the kernel has built in: the power button, input, and a USB tablet on QEMU's controllers.
readonly modules=(evdev button usb-common usbcore uhci-hcd ehci-hcd ehci-pci xhci-hcd xhci-pci hid usbhid hid-generic)

say() { printf 'guest: %s\n' "$*"; }
fail() { printf 'guest: %s\n' "$*" >&2; exit 1; }

is_built() { [[ -s "$dir/vmlinuz" && -s "$dir/initrd.gz" ]]; }

install_packages() {
  local package missing=()
  for package in busybox-static cpio kmod xz-utils zstd; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  local install=(apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=600 "${missing[@]}")
  "${install[@]}" >"$work/apt.log" 2>&1 || { apt-get update -qq && "${install[@]}"; } >"$work/apt.log" 2>&1 ||
    { tail -n 25 "$work/apt.log" >&2; fail "apt-get could not install ${missing[*]}; its last lines are above."; }
}

# depends PATTERN PACKAGE: the first dependency of PACKAGE whose name matches.
depends() { apt-cache depends "$2" 2>/dev/null | awk -v pattern="$1" '/Depends:/ && $2 ~ pattern { print $2; exit }'; }

# Debian: linux-image-amd64 names the kernel's package. Ubuntu: linux-image-generic does, and the modules come apart.
fetch_kernel() {
  local meta image package wanted=()
  for meta in linux-image-amd64 linux-image-generic linux-image-virtual; do
    image=$(depends '^linux-image-[0-9]' "$meta")
    [[ -n "$image" ]] && break
  done
  [[ -n "$image" ]] || fail "apt knows no kernel package: run 'apt-get update' once."
  wanted=("$image")
  package=${image/linux-image/linux-modules}
  apt-cache show "$package" >/dev/null 2>&1 && wanted+=("$package")
  say "fetching ${wanted[*]}"
  (cd "$work" && apt-get -o APT::Sandbox::User=root download -qq "${wanted[@]}" >"$work/apt.log" 2>&1) ||
    { tail -n 25 "$work/apt.log" >&2; fail "apt-get could not download ${wanted[*]}; its last lines are above."; }
  for package in "$work"/*.deb; do dpkg -x "$package" "$work/kernel"; done
}

# Modules as the initramfs loads them: plain files, in the order they need each other.
collect_modules() {
  local name file
  mkdir -p "$work/initrd/modules"
  for name in "${modules[@]}"; do
    file=$(find "$work/kernel" \( -name "$name.ko" -o -name "$name.ko.*" \) -print -quit)
    [[ -n "$file" ]] || continue # built into this kernel
    case $file in
      *.xz) xz -dc "$file" ;;
      *.zst) zstd -qdc "$file" ;;
      *) cat "$file" ;;
    esac >"$work/initrd/modules/$name.ko"
    printf '%s\n' "$name" >>"$work/initrd/modules/order"
  done
}

write_initrd() {
  local root=$work/initrd
  mkdir -p "$root"/{bin,dev,proc,sys,etc/acpi/PWRF}
  cp "$(command -v busybox)" "$root/bin/busybox"
  printf '#!/bin/sh\npoweroff -f\n' >"$root/etc/acpi/PWRF/00000080"
  cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module.ko"; done </modules/order
acpid -d -c /etc/acpi >/dev/null 2>&1 &
clear >/dev/tty1
echo "LAB GUEST READY $(uname -r)" >/dev/tty1
echo "LAB GUEST READY" >/dev/ttyS0
while true; do setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1'; done
INIT
  chmod +x "$root/init" "$root/etc/acpi/PWRF/00000080"
  (cd "$root" && find . | cpio -o -H newc --quiet | gzip -9) >"$work/out/initrd.gz"
}

main() {
  if is_built; then say "already in $dir"; return; fi
  mkdir -p "$(dirname "$dir")"
  exec 9>"$dir.lock"
  flock -n 9 || { say "another build is running, waiting for it"; flock 9; }
  if is_built; then say "already in $dir"; return; fi
  ((EUID == 0)) || fail "run this as root, or ask somebody who is: it installs what the build needs."
  command -v apt-get >/dev/null || fail "this needs a Debian or Ubuntu machine: apt-get is missing."

  work=$(mktemp -d "$dir.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/out"
  install_packages
  fetch_kernel
  collect_modules
  write_initrd
  install -m 644 "$work"/kernel/boot/vmlinuz-* "$work/out/vmlinuz"
  chmod 755 "$work/out"
  rm -rf "$dir"
  mv -T "$work/out" "$dir"
  say "built in $dir"
}

main
