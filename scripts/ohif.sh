#!/bin/sh
# Puts OHIF beside Hilum: the prebuilt viewer from npm, without what is not served, rewritten for its path /viewer/.
# Once per environment; the download is kept once per machine. Where npm or its registry is out of reach it says so and
# ends well: Hilum then opens images in its own small viewer. The folder: argument 1, else the setting from the
# environment, else share/hilum/ohif of the environment that this repository makes.
set -eu

version=3.13.2
sha512=5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3deea3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10
path=/viewer/
recipe="@ohif/app $version for $path, recipe 3"

root=$(cd "$(dirname "$0")/.." && pwd)
target=${1:-${HILUM_VIEWER__OHIF_FOLDER:-$root/.venv/share/hilum/ohif}}
[ "$(cat "$target/.installed" 2>/dev/null || true)" != "$recipe" ] || exit 0

without() {
    echo "ohif: $1; images open in Hilum's small viewer" >&2
    exit 0
}

digest() {
    if command -v sha512sum >/dev/null 2>&1; then sha512sum "$1"; else shasum -a 512 "$1"; fi | cut -d' ' -f1
}

cache=${XDG_CACHE_HOME:-$HOME/.cache}/hilum
archive=$cache/ohif-app-$version.tgz
mkdir -p "$cache" "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/.ohif.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM

if [ ! -f "$archive" ] || [ "$(digest "$archive")" != "$sha512" ]; then
    command -v npm >/dev/null 2>&1 || without "npm is not here"
    echo "ohif: fetching @ohif/app $version (50 MB), once"
    (cd "$work" && npm pack --silent "@ohif/app@$version" >/dev/null 2>&1) || without "npm could not fetch it"
    mv "$work/ohif-app-$version.tgz" "$work/archive"
    [ "$(digest "$work/archive")" = "$sha512" ] || { echo "ohif: what came is not @ohif/app $version" >&2; exit 1; }
    mv "$work/archive" "$archive"
fi

# The prebuilt AI runtime (136 MB), the maps of its sources, and what belongs to other ways of serving and signing in.
tar -xzf "$archive" -C "$work" --exclude='*.map' --exclude='package/dist/ort' package/dist package/LICENSE
dist=$work/package/dist
mv "$work/package/LICENSE" "$dist/LICENSE"
(cd "$dist" && rm -rf app-config.js customizations es6-shim.min.js google.js init-service-worker.js manifest.json \
    oidc-client.min.js polyfill.min.js serve.json silent-refresh.html sw.js _headers _redirects \
    assets/apple-* assets/android-* assets/mstile-* assets/coast-* assets/firefox_* assets/yandex-* \
    assets/browserconfig.xml assets/manifest.webapp)

# It was built to stand at the root of an origin. The path goes into the page, the loaders of its parts, and one import.
rewrite() { # rewrite FILE EXPRESSION...
    file=$1
    shift
    sed "$@" "$file" >"$work/rewritten"
    mv "$work/rewritten" "$file"
}
rewrite "$dist/index.html" -E -e "s#window.PUBLIC_URL=\"/\"#window.PUBLIC_URL=\"$path\"#g" \
    -e "s#(src|href)=\"/#\\1=\"$path#g" -e 's#<link rel="(apple-touch|manifest|yandex)[^>]*>##g' \
    -e 's#<meta name="(msapplication|apple)-[^>]*>##g' -e 's#<link rel="icon"[^>]*coast-[^>]*>##' \
    -e 's#<script[^>]*init-service-worker.js"></script>##' -e 's#<title>[^<]*#<title>Images · Hilum#'
for file in $(grep -l -e '__webpack_require__\.p = "/"' -e "browserImportFunction('/" -e "url(/[a-z0-9]*\.woff2)" "$dist"/*.js "$dist"/*.css); do
    rewrite "$file" -e "s|__webpack_require__\\.p = \"/\"|__webpack_require__.p = \"$path\"|" \
        -e "s#browserImportFunction('/#browserImportFunction('$path#" -e "s#url(/\([a-z0-9]*\.woff2\))#url($path\1)#g"
done

find "$dist" -type f \( -name '*.js' -o -name '*.css' -o -name '*.wasm' -o -name '*.svg' \) -exec gzip -9 -n {} +
echo "$recipe" >"$dist/.installed"
rm -rf "$target"
mv "$dist" "$target"
echo "ohif: @ohif/app $version is in $target ($(du -sm "$target" | cut -f1) MB)"
