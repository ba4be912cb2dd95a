#!/bin/sh
# A clean clone of the committed state, without caches and with no environment of ours: does the first hour work?
# Prints the time of each step, and fails when the demo takes over 5 minutes or the tests over 12.
set -eu

source_tree=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/hilum-fresh.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
export PIP_NO_CACHE_DIR=1 XDG_CACHE_HOME="$work/cache"
unset HILUM_HOME VIRTUAL_ENV || true

step() { # step SECONDS WORDS...
    limit=$1
    shift
    begin=$(date +%s)
    timeout "$limit" "$@" || { echo "fresh: '$*' failed or took more than $limit s" >&2; exit 1; }
    echo "fresh: '$*' took $(($(date +%s) - begin)) s of $limit"
}

git clone --quiet "$source_tree" "$work/hilum"
cd "$work/hilum"
step 300 make demo
step 720 make test
step 300 make check
