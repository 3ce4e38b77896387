#!/bin/sh
# Builds the reference implementations into .peers/: Kubo (needs Go) and ipfs-car (needs npm). Skips what is built.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p .peers
if command -v go >/dev/null 2>&1; then
    if [ ! -x .peers/ipfs ]; then
        # A module of our own that requires Kubo: `go install …@version` would ask the proxy for the version list.
        mkdir -p .peers/build
        cp tools/peers/go.mod tools/peers/go.sum tools/peers/tools.go .peers/build/
        (cd .peers/build && go build -mod=mod -trimpath -ldflags "-s -w" -o ../ipfs github.com/ipfs/kubo/cmd/ipfs)
    fi
    .peers/ipfs version
else
    echo "Go is not installed: the committed vectors stay in use, comparison with live Kubo is skipped" >&2
fi
if command -v npm >/dev/null 2>&1; then
    if [ ! -x .peers/node/node_modules/.bin/ipfs-car ]; then
        npm install --silent --no-fund --no-audit --prefix .peers/node ipfs-car@3.1.0
    fi
else
    echo "npm is not installed: comparison with ipfs-car is skipped" >&2
fi
