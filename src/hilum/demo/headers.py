"""DICOM objects around the phantoms' pixels, filled from a worklist item as a modality fills them (PS3.3 A.3, A.2).

Pixels come in; nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from hilum.demo.phantoms import CT_FIELD_OF_VIEW, CT_MATRIX, CT_NOISE, CT_SPACING, RADIOGRAPH_SPACING

Pixels = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Exam:
    """What the console knows of one examination: the worklist item chosen and what it assigned itself."""

    item: Dataset
    performed_step_id: str
    started: datetime
    station: str

    @property
    def step(self) -> Dataset:
        """The scheduled procedure step of the item."""
        sequence: Sequence = self.item.ScheduledProcedureStepSequence
        return sequence[0]


def ct_series(exam: Exam, volume: Pixels, description: str) -> Iterator[FileDataset]:
    """One CT image per slice of (slices, rows, columns) Hounsfield units, feet-ward."""
    series = _shared(exam, "CT", description, CTImageStorage)
    _scan_parameters(series, exam)
    spacing = CT_FIELD_OF_VIEW / CT_MATRIX
    corner = -(CT_MATRIX - 1) / 2 * spacing
    for index, pixels in enumerate(volume):
        image = _copy(series)
        image.InstanceNumber = index + 1
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        location = round(-index * CT_SPACING, 2)
        image.ImagePositionPatient = [round(corner, 4), round(corner, 4), location]
        image.SliceLocation = location
        _timed(image, exam.started + timedelta(seconds=90 + 0.12 * index))
        image.PixelSpacing = [round(spacing, 6), round(spacing, 6)]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.SliceThickness = CT_SPACING
        image.SpacingBetweenSlices = CT_SPACING
        image.PixelRepresentation = 0
        image.RescaleIntercept, image.RescaleSlope, image.RescaleType = -1024, 1, "HU"
        image.WindowCenter, image.WindowWidth = [40, -600], [400, 1500]
        image.WindowCenterWidthExplanation = ["MEDIASTINUM", "LUNG"]
        _pixels(image, (pixels.astype(np.int32) + 1024).astype(np.uint16), 12)
        yield image


def radiograph(exam: Exam, picture: Pixels, description: str, photometric: str = "MONOCHROME1") -> FileDataset:
    """One CR image of a 12 bit picture in which dense is high; MONOCHROME1 stores it inverted."""
    image = _shared(exam, "CR", description, ComputedRadiographyImageStorage)
    image.InstanceNumber = 1
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    _timed(image, exam.started + timedelta(seconds=40))
    image.BodyPartExamined = "CHEST"
    image.ViewPosition = "PA"
    image.PatientOrientation = ["L", "F"]
    image.KVP = "125"
    image.Exposure = 2
    image.ExposureTime = 8
    image.XRayTubeCurrent = 250
    image.DistanceSourceToDetector = "1800"
    image.PlateID = "P0417"
    image.CassetteSize = "35CMX43CM"
    image.ImagerPixelSpacing = [RADIOGRAPH_SPACING, RADIOGRAPH_SPACING]
    image.PixelRepresentation = 0
    image.WindowCenter, image.WindowWidth = 2048, 3600
    stored = 4095 - picture if photometric == "MONOCHROME1" else picture
    _pixels(image, stored.astype(np.uint16), 12)
    image.PhotometricInterpretation = photometric
    return image


def _shared(exam: Exam, modality: str, description: str, sop_class: UID) -> FileDataset:
    """What all images of the series say: patient, study, series, equipment."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.ImplementationVersionName = "HILUM_DEMO"
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = sop_class
    image.Modality = modality
    _patient(image, exam)
    _study(image, exam)
    image.SeriesInstanceUID = generate_uid(prefix=None)
    image.SeriesNumber = 2
    image.SeriesDescription = description
    image.SeriesDate, image.SeriesTime = _date(exam.started), _time(exam.started)
    image.ProtocolName = description
    image.OperatorsName = "Ferro^Dana"
    image.PerformedProcedureStepID = exam.performed_step_id
    image.PerformedProcedureStepStartDate = _date(exam.started)
    image.PerformedProcedureStepStartTime = _time(exam.started)
    image.PerformedProcedureStepDescription = description
    image.RequestAttributesSequence = Sequence([request_attributes(exam)])
    image.Manufacturer = "Hilum demonstration"
    image.ManufacturerModelName = "Phantom " + modality
    image.InstitutionName = "Demonstration Hospital"
    image.InstitutionalDepartmentName = "Radiology"
    image.StationName = exam.station
    image.DeviceSerialNumber = "000417"
    image.SoftwareVersions = "1.0"
    return image


def _patient(image: Dataset, exam: Exam) -> None:
    item = exam.item
    image.PatientName = item.PatientName
    image.PatientID = item.PatientID
    if item.get("IssuerOfPatientID"):
        image.IssuerOfPatientID = item.IssuerOfPatientID
    image.PatientBirthDate = item.get("PatientBirthDate", "")
    image.PatientSex = item.get("PatientSex", "")
    image.PatientSize, image.PatientWeight = "1.72", "74"
    if image.PatientBirthDate:
        born = datetime.strptime(image.PatientBirthDate, "%Y%m%d").date()
        image.PatientAge = f"{_years(born, exam.started.date()):03d}Y"


def _study(image: Dataset, exam: Exam) -> None:
    item = exam.item
    image.StudyInstanceUID = item.StudyInstanceUID
    image.StudyDate, image.StudyTime = _date(exam.started), _time(exam.started)
    image.AccessionNumber = item.AccessionNumber
    image.ReferringPhysicianName = item.get("ReferringPhysicianName", "")
    image.StudyID = item.RequestedProcedureID
    described = item.get("RequestedProcedureDescription") or exam.step.get("ScheduledProcedureStepDescription", "")
    image.StudyDescription = described
    if item.get("RequestedProcedureCodeSequence"):
        image.ProcedureCodeSequence = item.RequestedProcedureCodeSequence


def request_attributes(exam: Exam) -> Dataset:
    """The item of (0040,0275) that ties an image to what was asked for."""
    request = Dataset()
    request.AccessionNumber = exam.item.AccessionNumber
    request.StudyInstanceUID = exam.item.StudyInstanceUID
    request.RequestedProcedureID = exam.item.RequestedProcedureID
    request.RequestedProcedureDescription = exam.item.get("RequestedProcedureDescription", "")
    request.ScheduledProcedureStepID = exam.step.ScheduledProcedureStepID
    request.ScheduledProcedureStepDescription = exam.step.get("ScheduledProcedureStepDescription", "")
    if exam.step.get("ScheduledProtocolCodeSequence"):
        request.ScheduledProtocolCodeSequence = exam.step.ScheduledProtocolCodeSequence
    return request


def _scan_parameters(series: Dataset, exam: Exam) -> None:
    """Geometry and technique of a contrast-enhanced chest CT."""
    series.BodyPartExamined = "CHEST"
    series.PatientPosition = "HFS"
    series.FrameOfReferenceUID = generate_uid(prefix=None)
    series.PositionReferenceIndicator = "SN"
    series.AcquisitionNumber = 1
    series.ScanOptions = "HELICAL MODE"
    series.KVP = "120"
    series.DataCollectionDiameter = "500"
    series.ReconstructionDiameter = f"{CT_FIELD_OF_VIEW:g}"
    series.DistanceSourceToDetector = "1085.6"
    series.DistanceSourceToPatient = "595"
    series.GantryDetectorTilt = "0"
    series.TableHeight = "151"
    series.RotationDirection = "CW"
    series.ExposureTime = 500
    series.XRayTubeCurrent = 240
    series.Exposure = 120
    series.FilterType = "BODY FILTER"
    series.GeneratorPower = 28800
    series.FocalSpots = "0.7"
    series.ConvolutionKernel = "STANDARD"
    series.RevolutionTime = 0.5
    series.SpiralPitchFactor = 0.984
    series.CTDIvol = 7.4
    series.ContrastBolusAgent = "Iodinated contrast 350 mg/ml"
    series.ContrastBolusRoute = "IV"
    series.ContrastBolusVolume = "80"
    series.ContrastFlowRate = "3"
    series.ContrastBolusStartTime = _time(exam.started + timedelta(seconds=20))
    series.ImageComments = f"Phantom, noise {CT_NOISE:g} HU"
    series.BurnedInAnnotation = "NO"


def _pixels(image: Dataset, stored: npt.NDArray[np.uint16], bits: int) -> None:
    image.SOPInstanceUID = generate_uid(prefix=None)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = stored.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, bits, bits - 1
    image.LossyImageCompression = "00"
    image.PixelData = stored.astype("<u2").tobytes()


def _timed(image: Dataset, moment: datetime) -> None:
    image.AcquisitionDate = image.ContentDate = _date(moment)
    image.AcquisitionTime = image.ContentTime = _time(moment)


def _copy(series: FileDataset) -> FileDataset:
    """A new image with the elements of the series; the elements themselves are shared until replaced."""
    meta = FileMetaDataset()
    meta.update(series.file_meta)
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.update(series)
    return image


def _date(moment: datetime) -> str:
    return moment.strftime("%Y%m%d")


def _time(moment: datetime) -> str:
    return moment.strftime("%H%M%S.%f")


def _years(born: date, on: date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))
