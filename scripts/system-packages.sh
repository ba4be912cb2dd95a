#!/bin/sh
# The outside programs that the tests speak with: DCMTK, dicom3tools' validators, Orthanc, Chromium, strace, and Node.js,
# on which the OpenID provider of the tests runs (from version 20; npm fetches it into the user's cache).
# Installs what is missing on Debian and Ubuntu as root; elsewhere it says what to install.
set -eu

missing=""
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need dcmdump dcmtk
need dciodvfy dicom3tools
command -v Orthanc >/dev/null 2>&1 || [ -x /usr/sbin/Orthanc ] || missing="$missing orthanc"
[ -f /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
need strace strace
need node nodejs
need npm npm
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || missing="$missing chromium fonts-dejavu-core"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing what the tests need:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of names
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "The tests need these programs:$missing. Install them, on Debian or Ubuntu with: sudo apt-get install$missing" >&2
    exit 2
fi
