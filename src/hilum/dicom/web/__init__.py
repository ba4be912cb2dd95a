"""The DICOMweb door: QIDO-RS, WADO-RS, STOW-RS and capabilities (PS3.18)."""

from hilum.dicom.web.routes import routes

__all__ = ["routes"]
