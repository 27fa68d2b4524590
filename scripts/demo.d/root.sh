# The Debian root that is the first layer of the demo's image; source it after lib.sh and node.d/debian.sh, with `suite`,
# `kind` (model, small, node or shell) and `cache` set. Sets `packages` and `root`.

case $kind in
  model) packages=(python3 python3-torch libopenblas0-pthread) ;;
  small) packages=(python3) ;;
  # Only of scripts/bench image.
  node) packages=(nodejs) ;;
  shell) packages=(busybox-static) ;;
esac
root=$cache/root-$kind
root_recipe=$({ echo "$suite ${packages[*]}"; cat "$REPO/scripts/node.d/make-root.sh"; } | sha256sum | cut -d' ' -f1)

root_is_made() { [ "$(cat "$root.recipe" 2>/dev/null)" = "$root_recipe" ] && [ -d "$root" ]; }

make_root() {
  rm -rf --one-file-system "$root" "$root.recipe" || return
  debian_root "$suite" "$root" "$cache/root-$kind.log" "${packages[@]}"
  printf '%s\n' "$root_recipe" >"$root.recipe"
}
