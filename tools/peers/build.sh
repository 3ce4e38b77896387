#!/bin/sh
# Builds the reference implementations into .peers/: Kubo (needs Go) and ipfs-car (needs npm). Skips what is built.
set -eu
cd "$(dirname "$0")/../.."
missing=""
command -v go >/dev/null 2>&1 || missing="$missing Go 1.26 or newer (https://go.dev/dl, or your system's 'golang' package);"
command -v npm >/dev/null 2>&1 || missing="$missing Node.js with npm (https://nodejs.org, or your system's 'npm' package);"
if [ -n "$missing" ]; then
    # Without both, the vectors would lose the columns of the absent one.
    echo "make peers: install$missing then run it again. The committed vectors stay as they are." >&2
    exit 1
fi
mkdir -p .peers
kubo=$(sed -n 's/^require github.com\/ipfs\/kubo v//p' tools/peers/go.mod)
if [ ! -x .peers/ipfs ] || [ "$(.peers/ipfs version --number)" != "$kubo" ]; then
    # A module of our own that requires Kubo: `go install …@version` would ask the proxy for the version list.
    mkdir -p .peers/build
    cp tools/peers/go.mod tools/peers/go.sum tools/peers/tools.go .peers/build/
    (cd .peers/build && go build -mod=readonly -trimpath -ldflags "-s -w" -o ../ipfs github.com/ipfs/kubo/cmd/ipfs)
fi
.peers/ipfs version
if [ ! -x .peers/node/node_modules/.bin/ipfs-car ]; then
    npm install --silent --no-fund --no-audit --prefix .peers/node ipfs-car@3.1.0
fi
