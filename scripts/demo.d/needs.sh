# What the demo needs; source it after lib.sh and node.d/debian.sh. Expects `small`, `pods`, `cache` and `root_is_made`.

# check_needs: prints what is needed beside what is there, then ends if anything is missing, naming all of it.
# Sizes were measured on Debian 12 with nothing installed, and rounded up.
check_needs() {
  local missing=() kernel disk memory mirror name
  local need_disk=3 need_memory=2 download=0 minutes=1
  [ "$small" = 1 ] || need_disk=8 need_memory=4 minutes=3
  # Four servers at a time.
  [ "$pods" = 0 ] || need_memory=$((need_memory * 2)) minutes=$((minutes + 2))
  # What an earlier run left need not be made again.
  if ! command -v debootstrap g++ >/dev/null 2>&1; then download=$((download + 100)) need_disk=$((need_disk + 1)); fi
  if [ ! -d "$REPO/node_modules" ]; then
    download=$((download + 300)) need_disk=$((need_disk + 1)) minutes=$((minutes + 1))
  fi
  if [ ! -e "${THAW_NODE_DIR:-$REPO/.node}/forky/etc/thaw-node" ]; then
    download=$((download + 120)) need_disk=$((need_disk + 1)) minutes=$((minutes + 1))
  fi
  if ! root_is_made; then
    if [ "$small" = 1 ]; then download=$((download + 50)); else download=$((download + 280)) need_disk=$((need_disk + 2)); fi
    minutes=$((minutes + 2))
  fi
  kernel=$(uname -r)
  disk=$(df --output=avail -BG "$REPO" | tail -n 1 | tr -dc 0-9)
  memory=$(awk '/^MemAvailable:/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)
  mirror=$(debian_mirror 2>/dev/null) || mirror=''

  say_need root "$([ "$(id -u)" = 0 ] && echo yes || echo no)"
  say_need "Debian (apt-get)" "$(command -v apt-get || echo no)"
  say_need "a Debian mirror" "${mirror:-none found}"
  say_need "x86_64 or aarch64" "$(uname -m)"
  say_need "Linux 5.15 or later" "$kernel"
  say_need "$need_disk GB of disk" "$disk GB free"
  say_need "$need_memory GB of memory" "$memory GB available"
  printf 'It downloads %s and takes about %s on two cores.\n\n' \
    "$([ $download = 0 ] && echo nothing || echo "about $download MB")" \
    "$([ $minutes = 1 ] && echo 'a minute' || echo "$minutes minutes")"

  [ "$(id -u)" = 0 ] || missing+=("root: run it with sudo")
  command -v apt-get >/dev/null 2>&1 || missing+=("Debian: there is no apt-get here")
  [ -n "$mirror" ] || missing+=("a Debian mirror: set THAW_DEBIAN_MIRROR")
  case $(uname -m) in x86_64 | aarch64) ;; *) missing+=("an x86_64 or aarch64 machine") ;; esac
  [ "$(printf '%s\n' 5.15 "$kernel" | sort -V | head -n 1)" = 5.15 ] || missing+=("Linux 5.15 or later")
  [ "$disk" -ge "$need_disk" ] || missing+=("$((need_disk - disk)) GB more disk for $REPO")
  [ "$memory" -ge "$need_memory" ] || missing+=("$((need_memory - memory)) GB more free memory")
  grep -qw overlay /proc/filesystems || modprobe -n overlay 2>/dev/null || missing+=("overlayfs in the kernel")
  for name in mnt pid net uts ipc cgroup; do
    [ -e "/proc/self/ns/$name" ] || missing+=("$name namespaces in the kernel")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "Missing:"
  for name in "${missing[@]}"; do say "  $name"; done
  exit 1
}

say_need() { printf 'needs %-24s here: %s\n' "$1" "$2"; }
