"""The table of DICOMweb resources: path, method, the transaction of PS3.18, and what answers."""

from __future__ import annotations

from starlette.routing import Route

from hilum.archive.blobs import BlobStore
from hilum.archive.ingest import Ingest
from hilum.dicom.web.capabilities import capabilities
from hilum.dicom.web.delete import Delete
from hilum.dicom.web.door import ROOT, Door, Endpoint, guarded
from hilum.dicom.web.frames import Frames
from hilum.dicom.web.qido import Qido
from hilum.dicom.web.rendered import Rendered
from hilum.dicom.web.stow import Stow
from hilum.dicom.web.wado import Wado
from hilum.dicom.web.wado_uri import WadoUri
from hilum.security.audit import ReadLog
from hilum.settings import Configuration
from hilum.storage.store import Store

STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
FRAMES = INSTANCE + "/frames/{frames}"


def routes(
    store: Store, configuration: Configuration, read_log: ReadLog, ingest: Ingest, blobs: BlobStore
) -> list[Route]:
    """The routes of the door, with its path; whoever answers finds the actor in `request.state.actor`."""
    door = Door(store, configuration, read_log, ingest, blobs)
    resources = resources_of(door)
    described = capabilities(door, [(path, method, name) for path, method, name, _ in resources])
    return [
        *(Route(ROOT + path, guarded(answers), methods=[method]) for path, method, _, answers in resources),
        Route(ROOT, guarded(described), methods=["GET", "OPTIONS"]),
        Route(ROOT + "/", guarded(described), methods=["GET", "OPTIONS"]),
    ]


def resources_of(door: Door) -> list[tuple[str, str, str, Endpoint]]:
    """Return the resources: path below the root, method, name of the transaction in PS3.18, and what answers."""
    qido, wado, stow = Qido(door), Wado(door), Stow(door)
    delete = Delete(door)
    frames, rendered = Frames(door), Rendered(door)
    return [
        ("/studies", "GET", "SearchForStudies", qido.studies),
        ("/studies", "POST", "StoreInstances", stow.store),
        (STUDY, "POST", "StoreStudyInstances", stow.store),
        ("/series", "GET", "SearchForSeries", qido.series),
        ("/instances", "GET", "SearchForInstances", qido.instances),
        (STUDY + "/series", "GET", "SearchForStudySeries", qido.series),
        (STUDY + "/instances", "GET", "SearchForStudyInstances", qido.instances),
        (SERIES + "/instances", "GET", "SearchForStudySeriesInstances", qido.instances),
        ("/wado", "GET", "RetrieveInstanceByURI", WadoUri(door).retrieve),
        (STUDY, "GET", "RetrieveStudy", wado.instances),
        (SERIES, "GET", "RetrieveSeries", wado.instances),
        (INSTANCE, "GET", "RetrieveInstance", wado.instances),
        (STUDY, "DELETE", "DeleteStudy", delete.delete),
        (SERIES, "DELETE", "DeleteSeries", delete.delete),
        (INSTANCE, "DELETE", "DeleteInstance", delete.delete),
        (STUDY + "/metadata", "GET", "RetrieveStudyMetadata", wado.metadata),
        (SERIES + "/metadata", "GET", "RetrieveSeriesMetadata", wado.metadata),
        (INSTANCE + "/metadata", "GET", "RetrieveInstanceMetadata", wado.metadata),
        (STUDY + "/rendered", "GET", "RetrieveRenderedStudy", rendered.rendered),
        (SERIES + "/rendered", "GET", "RetrieveRenderedSeries", rendered.rendered),
        (INSTANCE + "/rendered", "GET", "RetrieveRenderedInstance", rendered.rendered),
        (FRAMES + "/rendered", "GET", "RetrieveRenderedFrames", rendered.rendered),
        (STUDY + "/thumbnail", "GET", "RetrieveStudyThumbnail", rendered.thumbnail),
        (SERIES + "/thumbnail", "GET", "RetrieveSeriesThumbnail", rendered.thumbnail),
        (INSTANCE + "/thumbnail", "GET", "RetrieveInstanceThumbnail", rendered.thumbnail),
        (FRAMES + "/thumbnail", "GET", "RetrieveFrameThumbnail", rendered.thumbnail),
        (FRAMES, "GET", "RetrieveFrames", frames.frames),
        (INSTANCE + "/bulkdata/{place:path}", "GET", "RetrieveBulkData", frames.bulkdata),
    ]
