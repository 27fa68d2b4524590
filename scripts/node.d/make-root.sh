#!/usr/bin/env bash
# make-root.sh SUITE DEST MIRROR SCRIPT KEYRING [PACKAGE…]: the part of debian_root that runs in its own mount and
# PID namespace.
set -euo pipefail
suite=$1 dest=$2 mirror=$3 script=$4 keyring=$5
shift 5

debootstrap --variant=minbase --keyring="$keyring" "$suite" "$dest" "$mirror" "$script"

# A frozen copy of the archive carries a Release file whose Valid-Until has passed; signatures are still checked.
cat >"$dest/etc/apt/apt.conf.d/90thaw" <<'CONF'
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
APT::Install-Recommends "false";
Dpkg::Use-Pty "false";
CONF
# The machine's own way to the archive, if it has one.
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy
[ -z "${https_proxy:-}" ] || export https_proxy
cp -L /etc/resolv.conf "$dest/etc/resolv.conf" 2>/dev/null || true
printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$dest/etc/apt/sources.list"
rm -f "$dest"/etc/apt/sources.list.d/*
mkdir -p "$dest$(dirname "$keyring")"
cp "$keyring" "$dest$keyring"

# No package may start a service here.
printf '#!/bin/sh\nexit 101\n' >"$dest/usr/sbin/policy-rc.d"
chmod 755 "$dest/usr/sbin/policy-rc.d"

# Maintainer scripts read /proc (systemd-sysusers and systemd-tmpfiles fail without) and /dev.
mount -t proc proc "$dest/proc"
mount -t sysfs -o ro sysfs "$dest/sys"
mount --rbind /dev "$dest/dev"

in_root() {
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} chroot "$dest" "$@"
}
in_root apt-get -q update
if [ $# -gt 0 ]; then in_root apt-get -q -y install "$@"; fi
in_root apt-get clean
audit=$(in_root dpkg --audit)
if [ -n "$audit" ]; then
  printf '%s\n' "$audit"
  exit 1
fi
rm -rf "$dest"/var/lib/apt/lists/* "$dest"/var/cache/apt/*.bin "$dest"/var/cache/debconf/*-old
