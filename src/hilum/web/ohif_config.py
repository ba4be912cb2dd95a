"""OHIF's `app-config.js`: one data source, this server's DICOMweb by the person's session, and nothing beyond it."""

from __future__ import annotations

from typing import Any

import orjson

# What it brings for purposes that are not proven here: PET fusion, 4D research, lung ultrasound.
HIDDEN_MODES = ("@ohif/mode-tmtv", "@ohif/mode-preclinical-4d", "@ohif/mode-ultrasound-pleura-bline")
NOTICE = "Not for primary diagnosis"


def config_script(*, facility: str, csrf_token: str, may_store: bool) -> bytes:
    """The script for one person. It carries the session's token, so it must be neither kept nor read by others."""
    values = {
        "config": configuration(may_store=may_store),
        "brand": {"facility": facility, "notice": NOTICE},
        "token": csrf_token,
    }
    # A script file, not a script element; `<` is escaped all the same, as is what JavaScript took for line ends.
    text = (
        orjson.dumps(values).decode().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    )
    return f"const hilum = {text};\n{_SCRIPT}".encode()


def configuration(*, may_store: bool) -> dict[str, Any]:
    """What OHIF is told that is plain data."""
    return {
        "name": "hilum",
        "routerBasename": "/viewer",
        "extensions": [],
        "modes": [],
        "modesConfiguration": {
            mode: {"hide": {"$set": True} if mode == "@ohif/mode-tmtv" else True} for mode in HIDDEN_MODES
        },
        # No guided tour across the first image of the day.
        "customizationService": {"global": {"ohif.tours": {"$set": []}}},
        "showStudyList": True,
        # Whose images these are is always in sight.
        "showPatientInfo": "visibleReadOnly",
        "maxNumberOfWebWorkers": 3,
        "showWarningMessageForCrossOrigin": True,
        "showCPUFallbackMessage": True,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "groupEnabledModesFirst": True,
        "showErrorDetails": "production",
        # Who can't store images is not asked whether to keep measurements as a report.
        "measurementTrackingMode": "standard" if may_store else "none",
        "investigationalUseDialog": {"option": "never"},
        # The server answers over HTTP/1.1, of which a browser opens six connections.
        "maxNumRequests": {"interaction": 20, "thumbnail": 5, "prefetch": 10},
        "defaultDataSourceName": "hilum",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "hilum",
                "configuration": _data_source(),
            }
        ],
    }


def _data_source() -> dict[str, Any]:
    """The roots are completed with the page's own origin, as the browser knows it."""
    return {
        "friendlyName": "Hilum",
        "name": "hilum",
        "qidoRoot": "/dicom-web",
        "wadoRoot": "/dicom-web",
        "wadoUriRoot": "/dicom-web",
        "qidoSupportsIncludeField": True,
        "supportsReject": False,
        "supportsStow": True,
        "dicomUploadEnabled": False,
        "imageRendering": "wadors",
        "thumbnailRendering": "thumbnail",
        "thumbnailRequestStrategy": "fetch",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": True,
        "supportsWildcard": True,
        "staticWado": False,
        "singlepart": "bulkdata,video,pdf",
        "bulkDataURI": {"enabled": True},
    }


_SCRIPT = """\
const source = hilum.config.dataSources[0].configuration;
for (const root of ["qidoRoot", "wadoRoot", "wadoUriRoot"]) source[root] = location.origin + source[root];

// A change by cookie needs the token that only this origin's own pages know.
const open = XMLHttpRequest.prototype.open;
XMLHttpRequest.prototype.open = function (method, url, ...rest) {
  open.call(this, method, url, ...rest);
  const ours = new URL(url, location.href).origin === location.origin;
  if (ours && !["GET", "HEAD"].includes(method.toUpperCase())) this.setRequestHeader("X-CSRF-Token", hilum.token);
};

const BRAND = { color: "#fff", display: "flex", gap: "10px", alignItems: "baseline", whiteSpace: "nowrap" };

function signIn() {
  location.assign("/auth/login?next=" + encodeURIComponent(location.pathname + location.search));
}

window.config = {
  ...hilum.config,
  httpErrorHandler: (error) => {
    if (error?.status === 401) signIn();
  },
  whiteLabeling: {
    createLogoComponentFn: (react) =>
      react.createElement(
        "a",
        { href: "/", title: "To the worklist", style: BRAND },
        react.createElement("b", null, "Hilum"),
        react.createElement("span", { style: { opacity: 0.75, fontSize: "12px" } }, hilum.brand.facility),
        react.createElement("span", { style: { color: "#ffb454", fontSize: "12px" } }, hilum.brand.notice),
      ),
  },
};
"""
