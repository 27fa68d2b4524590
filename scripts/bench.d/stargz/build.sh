# Makes the Go programs of the benches, build/bench/stargz/{snapshotter,load}, and takes Debian's ctr-remote along, which
# converts images to eStargz; source it after lib.sh and node.d/debian.sh. Debian 12 has a library and a containerd that
# belong together; all of it is compiled without modules, from Debian's own source packages.

stargz_suite=bookworm
stargz_packages=(golang-go golang-github-containerd-stargz-snapshotter-dev stargz-snapshotter)
stargz_programs=build/bench/stargz

stargz_recipe() {
  { echo "$stargz_suite ${stargz_packages[*]}"; cat scripts/bench.d/stargz/{build.sh,*/*.go} scripts/node.d/make-root.sh; } |
    sha256sum | cut -d' ' -f1
}

# CACHE: folder for the Debian root, which goes again.
build_stargz() {
  local cache=$1 root=$1/root-stargz log=$1/root-stargz.log recipe
  recipe=$(stargz_recipe)
  [ "$(cat $stargz_programs/recipe 2>/dev/null)" != "$recipe" ] || return 0
  say "Building stargz-snapshotter from Debian's sources (some minutes, once)"
  rm -rf --one-file-system "$root" $stargz_programs
  debian_root $stargz_suite "$root" "$log" "${stargz_packages[@]}"
  mkdir -p "$root/src" "$root/out" "$root/gopath/src/k8s.io/cri-api/pkg/apis/runtime"
  cp -r scripts/bench.d/stargz/{snapshotter,load} "$root/src/"
  cp -r scripts/bench.d/stargz/cri-api "$root/gopath/src/k8s.io/cri-api/pkg/apis/runtime/v1alpha2"
  if ! unshare --mount --pid --fork --kill-child --propagation private bash -euc '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
      GO111MODULE=off GOPATH=/usr/share/gocode:/gopath GOFLAGS=-trimpath CGO_ENABLED=0 GOTOOLCHAIN=local \
      chroot "$1" sh -euc "
        for name in snapshotter load; do go build -o /out/\$name /src/\$name/main.go; done
        cp /usr/bin/ctr-remote /out/
        dpkg-query -W -f \"\\\${Version}\" golang-github-containerd-stargz-snapshotter-dev >/out/version
      "' stargz "$root" >>"$log" 2>&1; then
    tail -n 25 "$log" >&2
    die "Cannot build stargz-snapshotter (see above; all of it is in $log)"
  fi
  mkdir -p $stargz_programs
  cp "$root"/out/* $stargz_programs/
  echo "$recipe" >$stargz_programs/recipe
  rm -rf --one-file-system "$root"
}
