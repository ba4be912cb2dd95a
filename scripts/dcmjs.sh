#!/bin/sh
# Puts dcmjs-dimse, a peer of the tests, into the cache of this machine, by its lock file, once; prints the folder.
# Where npm is not here it says so and ends with 3.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
source=$root/tests/wire/dcmjs
command -v npm >/dev/null 2>&1 || { echo "dcmjs: npm is not here" >&2; exit 3; }
recipe=$(cat "$source/package-lock.json" | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16)
target=${XDG_CACHE_HOME:-$HOME/.cache}/hilum/dcmjs-$recipe
if [ ! -f "$target/.installed" ]; then
    mkdir -p "$(dirname "$target")"
    work=$(mktemp -d "$target.XXXXXX")
    trap 'rm -rf "$work"' EXIT INT TERM
    cp "$source/package.json" "$source/package-lock.json" "$work"
    # Its scripts are not run: all of it is plain JavaScript and WebAssembly.
    (cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --silent) >&2
    touch "$work/.installed"
    # Another process may have been quicker.
    mv -T "$work" "$target" 2>/dev/null || [ -f "$target/.installed" ]
fi
echo "$target"
