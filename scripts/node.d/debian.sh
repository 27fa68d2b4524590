# Debian roots made by debootstrap; source it after lib.sh. Used by scripts/node, and by scripts/demo for its image.

DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# Prints the first Debian archive of the machine's own apt configuration (one-line or deb822), as apt fetches it.
# THAW_DEBIAN_MIRROR overrides. Archives of other vendors, debian-security and debian-ports do not count.
debian_mirror() {
  if [ -n "${THAW_DEBIAN_MIRROR:-}" ]; then
    printf '%s\n' "${THAW_DEBIAN_MIRROR%/}"
    return 0
  fi
  local uri
  uri=$(
    {
      for f in /etc/apt/sources.list.d/*.sources; do
        [ -f "$f" ] && sed -n 's/^URIs:[[:space:]]*//p' "$f"
      done
      for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$f" ] && sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' "$f"
      done
    } | tr ' \t' '\n\n' | sed 's,/*$,,' | grep -E '^(https?|file|copy)://?.*debian$' | head -n 1
  ) || true
  [ -n "$uri" ] || die "No Debian mirror found in /etc/apt: set THAW_DEBIAN_MIRROR to one, such as the URI of your Debian archive"
  printf '%s\n' "$uri"
}

# debian_root SUITE DEST LOG [PACKAGE…]: makes DEST, which must not exist, a Debian root with these packages and
# nothing half-configured. Everything happens in DEST.new, in namespaces of its own: what is interrupted leaves no
# mount and no process, and never a half-made DEST.
debian_root() {
  local suite=$1 dest=$2 log=$3 mirror script
  shift 3
  [ "$(id -u)" = 0 ] || die "A Debian root can be made by root only"
  command -v debootstrap >/dev/null 2>&1 || die "debootstrap is missing: run scripts/setup first"
  [ -f "$DEBIAN_KEYRING" ] || die "$DEBIAN_KEYRING is missing: install debian-archive-keyring"
  mirror=$(debian_mirror)
  # An older debootstrap has no script for a newer suite; sid's serves every current one.
  script=/usr/share/debootstrap/scripts/$suite
  [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
  rm -rf --one-file-system "$dest.new"
  if ! unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
    bash "$REPO/scripts/node.d/make-root.sh" "$suite" "$dest.new" "$mirror" "$script" "$DEBIAN_KEYRING" "$@" \
    >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    rm -rf --one-file-system "$dest.new"
    die "Cannot make a Debian $suite root (see above; all of it is in $log)"
  fi
  mv "$dest.new" "$dest"
}
