#!/bin/sh
# Write constraints.txt from an environment; certificates are the exception, which should be the newest.
set -eu
{
    echo "# What 'make' installs, pinned: made by 'make lock' from an environment in which the tests pass."
    "$1" -m pip freeze --exclude hilum --exclude-editable | grep -v '^#' | sed 's/^certifi==.*/certifi>=2026.1.4/'
} >constraints.new
mv constraints.new constraints.txt
