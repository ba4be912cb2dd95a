"""The schema: one SQLAlchemy Core table per noun. Migrations must end in exactly this (a test compares them).

Row identifiers are ULIDs made by the client, except where an order of rows is itself the meaning (audit sequence,
event position). Free-text search columns (`*_folded`) hold `core.text.fold` of what they search.
"""

from __future__ import annotations

import sqlalchemy as sa

from hilum.storage.columns import Id, Json, PlainText, Uid, UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _reference(name: str, target: str, *, nullable: bool = True, index: bool = True) -> sa.Column[str]:
    return sa.Column(name, Id, sa.ForeignKey(f"{target}.id"), nullable=nullable, index=index)


patient = sa.Table(
    "patient",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("family", PlainText, nullable=False),
    sa.Column("given", PlainText, nullable=False),
    sa.Column("middle", PlainText, nullable=False),
    sa.Column("prefix", PlainText, nullable=False),
    sa.Column("suffix", PlainText, nullable=False),
    sa.Column("name_folded", PlainText, nullable=False, index=True),
    sa.Column("birth_date", sa.Date),
    sa.Column("sex", sa.String(1), nullable=False),
    _reference("merged_into", "patient"),
    # The patient at the end of the merges: the row itself where there is none. Follows `merged_into`.
    _reference("survivor_id", "patient", nullable=False),
    sa.Column("demographics_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
)

patient_identifier = sa.Table(
    "patient_identifier",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _reference("patient_id", "patient", nullable=False),
    sa.Column("value", PlainText, nullable=False),
    sa.Column("authority", PlainText, nullable=False),
    sa.Column("type_code", sa.String(10), nullable=False),
    sa.UniqueConstraint("value", "authority"),
)

patient_merge = sa.Table(
    "patient_merge",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _reference("survivor_id", "patient", nullable=False),
    _reference("subsumed_id", "patient", nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("message_id", Id),
    sa.Column("undone_at", UtcDateTime),
    sa.Column("undone_by", PlainText),
    sa.Column("undone_reason", PlainText),
)

imaging_order = sa.Table(
    "imaging_order",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _reference("patient_id", "patient", nullable=False),
    sa.Column("accession_number", sa.String(16), nullable=False, unique=True),
    sa.Column("placer_order_number", PlainText, nullable=False),
    sa.Column("placer_authority", PlainText, nullable=False),
    sa.Column("filler_order_number", PlainText, nullable=False),
    sa.Column("filler_authority", PlainText, nullable=False),
    sa.Column("filler", sa.String(10), nullable=False),
    sa.Column("study_instance_uid", Uid, nullable=False, unique=True),
    sa.Column("requested_procedure_id", sa.String(16), nullable=False),
    sa.Column("procedure_code", PlainText, nullable=False),
    sa.Column("procedure_scheme", PlainText, nullable=False),
    sa.Column("procedure_meaning", PlainText, nullable=False),
    sa.Column("modality", sa.String(16), nullable=False),
    sa.Column("body_region", sa.String(32), nullable=False),
    sa.Column("priority", sa.String(10), nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("clinical_information", PlainText, nullable=False),
    sa.Column("ordering_identifier", PlainText, nullable=False),
    sa.Column("ordering_authority", PlainText, nullable=False),
    sa.Column("ordering_family", PlainText, nullable=False),
    sa.Column("ordering_given", PlainText, nullable=False),
    sa.Column("copies_to", Json, nullable=False),
    sa.Column("visit_number", PlainText, nullable=False),
    sa.Column("patient_class", sa.String(4), nullable=False),
    sa.Column("sender", PlainText, nullable=False),
    sa.Column("placed_at", UtcDateTime, nullable=False),
    sa.Column("scheduled_at", UtcDateTime),
    # Cancelled or discontinued by whoever may do so: no exam opens it again.
    sa.Column("withdrawn", sa.Boolean, nullable=False),
    # Since when the exam waits to be read: set and cleared by `storage.unread` alone.
    sa.Column("unread_since", UtcDateTime),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.UniqueConstraint("placer_order_number", "placer_authority"),
    sa.Index("ix_imaging_order_status_priority_id", "status", "priority", "id"),
    sa.Index("ix_imaging_order_filler_order_number", "filler_order_number", "filler_authority"),
    sa.Index("ix_imaging_order_ordering", "ordering_identifier", "ordering_authority"),
)

sa.Index(
    "ix_imaging_order_unread",
    imaging_order.c.priority,
    imaging_order.c.unread_since,
    imaging_order.c.id,
    sqlite_where=imaging_order.c.unread_since.is_not(None),
    postgresql_where=imaging_order.c.unread_since.is_not(None),
)

# Physicians who may see an order's patient: the ordering one and those copied (Scope compiles to this table).
order_physician = sa.Table(
    "order_physician",
    metadata,
    sa.Column("order_id", Id, sa.ForeignKey("imaging_order.id"), primary_key=True),
    sa.Column("identifier", PlainText, primary_key=True),
    sa.Column("authority", PlainText, primary_key=True),
    _reference("patient_id", "patient", nullable=False),
    sa.Index("ix_order_physician_identifier", "identifier", "authority", "patient_id"),
)

scheduled_step = sa.Table(
    "scheduled_step",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _reference("order_id", "imaging_order", nullable=False),
    sa.Column("step_id", sa.String(16), nullable=False),
    sa.Column("modality", sa.String(16), nullable=False),
    sa.Column("station_ae_title", sa.String(16), nullable=False),
    sa.Column("station_name", sa.String(16), nullable=False),
    sa.Column("location", PlainText, nullable=False),
    sa.Column("start_at", UtcDateTime),
    sa.Column("description", PlainText, nullable=False),
    sa.Column("protocol", Json, nullable=False),
    sa.Column("performing_physician", Json, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.UniqueConstraint("order_id", "step_id"),
    sa.Index("ix_scheduled_step_status_start_at", "status", "start_at"),
)

performed_step = sa.Table(
    "performed_step",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("sop_instance_uid", Uid, nullable=False, unique=True),
    sa.Column("status", sa.String(16), nullable=False),
    _reference("patient_id", "patient"),
    sa.Column("station_ae_title", PlainText, nullable=False),
    sa.Column("modality", PlainText, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("discontinuation", Json),
    sa.Column("series_instance_uids", Json, nullable=False),
    sa.Column("study_instance_uids", Json, nullable=False),
    sa.Column("attributes", Json, nullable=False),
    sa.Column("peer", PlainText, nullable=False),
)

performed_scheduled = sa.Table(
    "performed_scheduled",
    metadata,
    sa.Column("performed_id", Id, sa.ForeignKey("performed_step.id"), primary_key=True),
    sa.Column("step_id", Id, sa.ForeignKey("scheduled_step.id"), primary_key=True, index=True),
    _reference("order_id", "imaging_order", nullable=False),
)

performed_series = sa.Table(
    "performed_series",
    metadata,
    sa.Column("performed_id", Id, sa.ForeignKey("performed_step.id"), primary_key=True),
    sa.Column("series_instance_uid", Uid, primary_key=True, index=True),
)

study = sa.Table(
    "study",
    metadata,
    sa.Column("id", Id, primary_key=True),
    # Unique per patient as the images name it: images of another patient sent under the same UID never mix in.
    sa.Column("study_instance_uid", Uid, nullable=False),
    _reference("patient_id", "patient"),
    _reference("order_id", "imaging_order"),
    sa.Column("match_state", sa.String(16), nullable=False, index=True),
    # What the images themselves say; the patient's and order's truth is overlaid on the way out.
    sa.Column("patient_identifier", PlainText, nullable=False, index=True),
    sa.Column("patient_authority", PlainText, nullable=False),
    sa.Column("patient_name", PlainText, nullable=False),
    sa.Column("patient_name_folded", PlainText, nullable=False, index=True),
    sa.Column("patient_birth_date", PlainText, nullable=False),
    sa.Column("patient_sex", PlainText, nullable=False),
    sa.Column("accession_number", PlainText, nullable=False, index=True),
    sa.Column("study_identifier", PlainText, nullable=False),
    sa.Column("study_date", PlainText, nullable=False),
    sa.Column("study_time", PlainText, nullable=False),
    sa.Column("description", PlainText, nullable=False),
    sa.Column("description_folded", PlainText, nullable=False),
    sa.Column("referring_physician", PlainText, nullable=False),
    sa.Column("referring_physician_folded", PlainText, nullable=False, server_default=""),
    sa.Column("modalities", PlainText, nullable=False),
    sa.Column("series_count", sa.Integer, nullable=False),
    sa.Column("instance_count", sa.Integer, nullable=False),
    # How many of them `InstancesStored` has spoken of.
    sa.Column("announced_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attributes", Json, nullable=False),
    sa.Column("first_received_at", UtcDateTime, nullable=False),
    sa.Column("last_received_at", UtcDateTime, nullable=False, index=True),
    sa.Column("completed_at", UtcDateTime),
    # When a person last said that it is another patient's or order's than the images say.
    sa.Column("reassigned_at", UtcDateTime),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.UniqueConstraint("study_instance_uid", "patient_identifier"),
    # The order of lists, so that a page is read off it.
    sa.Index("ix_study_study_date_study_time_id", "study_date", "study_time", "id"),
)
sa.Index(
    "ix_study_without_order",
    study.c.first_received_at,
    study.c.id,
    sqlite_where=study.c.order_id.is_(None),
    postgresql_where=study.c.order_id.is_(None),
)
sa.Index(
    "ix_study_incomplete",
    study.c.last_received_at,
    sqlite_where=study.c.completed_at.is_(None),
    postgresql_where=study.c.completed_at.is_(None),
)

series = sa.Table(
    "series",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _reference("study_id", "study", nullable=False),
    # The study that its images say they are of, where a person moved it out of there: more of them follow it.
    _reference("origin_study_id", "study"),
    sa.Column("series_instance_uid", Uid, nullable=False),
    sa.Column("modality", PlainText, nullable=False),
    sa.Column("number", sa.Integer),
    sa.Column("description", PlainText, nullable=False),
    sa.Column("description_folded", PlainText, nullable=False, server_default=""),
    sa.Column("body_part", PlainText, nullable=False),
    sa.Column("station_name", PlainText, nullable=False),
    sa.Column("series_date", PlainText, nullable=False),
    sa.Column("series_time", PlainText, nullable=False),
    sa.Column("instance_count", sa.Integer, nullable=False),
    # Positive evidence of error (exam discontinued as wrong worklist entry): not shown until a person decides.
    sa.Column("withheld", sa.Boolean, nullable=False),
    sa.Column("attributes", Json, nullable=False),
    sa.UniqueConstraint("series_instance_uid", "study_id"),
)

instance = sa.Table(
    "instance",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _reference("series_id", "series", nullable=False),
    _reference("study_id", "study", nullable=False),
    sa.Column("sop_instance_uid", Uid, nullable=False),
    sa.Column("sop_class_uid", Uid, nullable=False),
    sa.Column("transfer_syntax_uid", Uid, nullable=False),
    sa.Column("number", sa.Integer),
    sa.Column("rows", sa.Integer),
    sa.Column("columns", sa.Integer),
    sa.Column("frames", sa.Integer, nullable=False),
    # sha256 of the data set without preamble and group 0002.
    sa.Column("digest", PlainText, nullable=False),
    # Set where another instance of this UID came first with other bytes: kept beside, never served as the image.
    sa.Column("beside", sa.Boolean, nullable=False),
    # Why it is kept from sight: "note", "rejected" or "deleted"; null where it is shown. Kept by `storage.hiding`.
    sa.Column("hidden", sa.String(10)),
    sa.Column("object_key", PlainText, nullable=False),
    sa.Column("object_offset", sa.BigInteger, nullable=False),
    sa.Column("object_length", sa.BigInteger, nullable=False),
    sa.Column("dataset_offset", sa.BigInteger, nullable=False),
    sa.Column("pixels", Json),
    sa.Column("header", sa.LargeBinary, nullable=False),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("peer", PlainText, nullable=False),
    sa.UniqueConstraint("sop_instance_uid", "digest"),
    sa.Index("ix_instance_object_key_object_offset", "object_key", "object_offset"),
)
# One instance of a UID is the image, whoever sends at the same moment.
sa.Index(
    "uq_instance_shown",
    instance.c.sop_instance_uid,
    unique=True,
    sqlite_where=sa.text("NOT beside"),
    postgresql_where=sa.text("NOT beside"),
)

# What a person moved to another patient, order or study, and how it was before, so that it can be undone.
reassignment = sa.Table(
    "reassignment",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("kind", sa.String(10), nullable=False),
    # No references: what was done stays on record when the study is deleted.
    sa.Column("study_id", Id, nullable=False, index=True),
    sa.Column("into_study_id", Id, nullable=False, index=True),
    # Patient, order and state of the study before, and which series were withheld.
    sa.Column("before", Json, nullable=False),
    # Series that moved whole, by their ids, and instances that moved alone, by that of the series they were in.
    sa.Column("series_ids", Json, nullable=False),
    sa.Column("instance_ids", Json, nullable=False),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("by", PlainText, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("undone_at", UtcDateTime),
    sa.Column("undone_by", PlainText),
    sa.Column("undone_reason", PlainText),
)

# What peers asked to be assured of (storage commitment), until they have been told.
commitment_request = sa.Table(
    "commitment_request",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("peer", PlainText, nullable=False),
    sa.Column("transaction_uid", Uid, nullable=False),
    # Pairs of SOP class and SOP instance.
    sa.Column("referenced", Json, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.UniqueConstraint("peer", "transaction_uid"),
    sa.Index(None, "state", "due_at"),
)

report = sa.Table(
    "report",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("order_id", Id, sa.ForeignKey("imaging_order.id"), nullable=False, unique=True),
    _reference("patient_id", "patient", nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    # "report", "addendum" or "correction": what the draft is to become.
    sa.Column("draft_kind", sa.String(10)),
    sa.Column("draft_reason", PlainText),
    sa.Column("draft_findings", PlainText),
    sa.Column("draft_impression", PlainText),
    sa.Column("draft_by", PlainText),
    sa.Column("draft_at", UtcDateTime),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Index("ix_report_updated_at_order_id", "updated_at", "order_id"),
)

report_version = sa.Table(
    "report_version",
    metadata,
    sa.Column("report_id", Id, sa.ForeignKey("report.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("findings", PlainText, nullable=False),
    sa.Column("impression", PlainText, nullable=False),
    # Why it was corrected, added to or withdrawn; empty where nobody said it.
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("interpreter", Json, nullable=False),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    sa.Column("signed_at", UtcDateTime, nullable=False),
    sa.Column("signed_by", PlainText, nullable=False),
    sa.Column("source", PlainText, nullable=False),
    sa.Column("message_id", Id),
)

prior_check = sa.Table(
    "prior_check",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _reference("patient_id", "patient", nullable=False),
    sa.Column("placer_order_number", PlainText, nullable=False),
    sa.Column("procedure_code", PlainText, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("cards", sa.Integer, nullable=False),
    _reference("order_id", "imaging_order"),
)

cds_feedback = sa.Table(
    "cds_feedback",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("service", PlainText, nullable=False),
    sa.Column("card", PlainText, nullable=False),
    sa.Column("outcome", sa.String(32), nullable=False),
    sa.Column("body", Json, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", PlainText, nullable=False),
)

worklist_served = sa.Table(
    "worklist_served",
    metadata,
    sa.Column("step_id", Id, sa.ForeignKey("scheduled_step.id"), primary_key=True),
    sa.Column("peer", PlainText, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
)

event = sa.Table(
    "event",
    metadata,
    # Given by the database when a verb writes its events, under the locks of its patients: the order of one patient's
    # events whatever the clocks of several machines say. It is not commit order, so nobody keeps a cursor over it.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", Id, nullable=False, unique=True),
    # Given by the one leased router after commit.
    sa.Column("position", sa.BigInteger, unique=True),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("patient_id", Id, index=True),
    sa.Column("order_id", Id, index=True),
    sa.Column("study_id", Id, index=True),
    sa.Column("report_id", Id),
    sa.Column("report_version", sa.Integer),
    sa.Column("message_id", Id),
    sa.Column("standard", sa.String(40), nullable=False),
    sa.Column("peer", PlainText, nullable=False),
    sa.Column("details", Json, nullable=False),
)
sa.Index(
    "ix_event_unrouted",
    event.c.number,
    sqlite_where=event.c.position.is_(None),
    postgresql_where=event.c.position.is_(None),
)

inbound_message = sa.Table(
    "inbound_message",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("received_at", UtcDateTime, nullable=False, index=True),
    sa.Column("sender", PlainText, nullable=False),
    sa.Column("control_id", PlainText, nullable=False, index=True),
    sa.Column("digest", PlainText, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("reply", sa.LargeBinary, nullable=False),
    # "applied", "refused" or "failed"; an answer other than applied lets the same message be processed again.
    sa.Column("outcome", sa.String(10), nullable=False),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("patient_id", Id, index=True),
    sa.Column("order_id", Id, index=True),
    sa.UniqueConstraint("sender", "control_id", "digest"),
)

lane = sa.Table(
    "lane",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("destination", PlainText, nullable=False),
    sa.Column("subject", Id, nullable=False),
    # "open", "retrying", "blocked" (a dead letter waits for a person) or "parked".
    sa.Column("state", sa.String(10), nullable=False),
    # From when on a worker may take the lane: now, the time of the next try, or the end of the lease of the worker that
    # has it. Null where there is nothing to do: empty, blocked, parked or joined.
    sa.Column("ready_at", UtcDateTime),
    sa.Column("lease_by", PlainText),
    _reference("joined_into", "lane"),
    sa.UniqueConstraint("destination", "subject"),
)
sa.Index(
    "ix_lane_ready",
    lane.c.destination,
    lane.c.ready_at,
    sqlite_where=lane.c.ready_at.is_not(None),
    postgresql_where=lane.c.ready_at.is_not(None),
)

delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _reference("lane_id", "lane", nullable=False, index=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("event_id", Id, nullable=False, index=True),
    sa.Column("order_id", Id, index=True),
    sa.Column("kind", sa.String(40), nullable=False),
    # Deliveries of one subject (a report) of which a newer one supersedes an older one not yet sent.
    sa.Column("supersedes_key", PlainText, nullable=False),
    sa.Column("control_id", PlainText, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    # "waiting", "sending", "delivered", "superseded", "dead" or "parked".
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("refusals", sa.Integer, nullable=False),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("reply", sa.LargeBinary),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("sent_at", UtcDateTime),
    sa.Column("delivered_at", UtcDateTime),
    sa.Index("ix_delivery_lane_id_state_position", "lane_id", "state", "position"),
    # Covers what the list of lanes and the metrics count.
    sa.Index("ix_delivery_state_lane_id", "state", "lane_id", "created_at"),
)

# What a delivery was before a person changed it, so that both can be shown: nothing that was sent is forgotten.
delivery_before = sa.Table(
    "delivery_before",
    metadata,
    sa.Column("delivery_id", Id, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("control_id", PlainText, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("reply", sa.LargeBinary),
    sa.Column("replaced_at", UtcDateTime, nullable=False),
    sa.Column("replaced_by", PlainText, nullable=False),
)

# Which images a destination has taken, so that a retry sends what is missing; `status` is 0 or a warning.
image_sent = sa.Table(
    "image_sent",
    metadata,
    sa.Column("destination", PlainText, primary_key=True),
    sa.Column("instance_id", Id, primary_key=True),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
)

# What destinations were asked to commit themselves to (PS3.4 J, as SCU), and what they answered.
commitment_asked = sa.Table(
    "commitment_asked",
    metadata,
    sa.Column("transaction_uid", Uid, primary_key=True),
    sa.Column("destination", PlainText, nullable=False),
    sa.Column("ae_title", PlainText, nullable=False),
    sa.Column("delivery_id", Id, nullable=False, index=True),
    sa.Column("asked_at", UtcDateTime, nullable=False),
    sa.Column("answered_at", UtcDateTime),
    # SOP Instance UIDs that the destination does not hold for good.
    sa.Column("failed", Json, nullable=False),
)

exception_item = sa.Table(
    "exception_item",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    _reference("patient_id", "patient"),
    _reference("order_id", "imaging_order"),
    _reference("study_id", "study"),
    sa.Column("message_id", Id),
    sa.Column("note", PlainText, nullable=False),
    sa.Column("resolved_at", UtcDateTime),
    sa.Column("resolved_by", PlainText, nullable=False),
    sa.Column("resolution", PlainText, nullable=False),
    sa.Index("ix_exception_item_resolved_at_id", "resolved_at", "id"),
)

user_account = sa.Table(
    "user_account",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", PlainText, nullable=False, unique=True),
    sa.Column("display", PlainText, nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("password_hash", PlainText, nullable=False),
    sa.Column("must_change_password", sa.Boolean, nullable=False),
    sa.Column("identifiers", Json, nullable=False),
    # Whose patients alone the account sees; an empty list for all.
    sa.Column("facilities", Json, nullable=False, server_default="[]"),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_failure_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

session = sa.Table(
    "session",
    metadata,
    # sha256 of the cookie's secret: the database alone opens no session.
    sa.Column("id", PlainText, primary_key=True),
    _reference("user_id", "user_account", nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("address", PlainText, nullable=False),
    # The OpenID provider that spoke for the person; empty where a password did.
    sa.Column("provider", PlainText, nullable=False),
    # When the person last proved who they are; null where a provider does not say.
    sa.Column("proved_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
)

# Whom an OpenID provider means: its name for a person is the pair of issuer and subject, nothing else.
user_link = sa.Table(
    "user_link",
    metadata,
    sa.Column("issuer", PlainText, primary_key=True),
    sa.Column("subject", PlainText, primary_key=True),
    _reference("user_id", "user_account", nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

# Wrong passwords by name and address, also of names that no account has, so that a wait tells nothing.
sign_in_failure = sa.Table(
    "sign_in_failure",
    metadata,
    # sha256 of the name: people type their password into the wrong field.
    sa.Column("name_digest", PlainText, primary_key=True),
    sa.Column("address", PlainText, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_failure_at", UtcDateTime, nullable=False, index=True),
)

service_client = sa.Table(
    "service_client",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", PlainText, nullable=False, unique=True),
    sa.Column("role", sa.String(32), nullable=False),
    # Public keys only (RFC 7517); the client keeps the private ones.
    sa.Column("jwks", Json, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

# Assertions of clients that were taken, until they end: each is good once (RFC 7523 section 3, jti).
client_assertion = sa.Table(
    "client_assertion",
    metadata,
    sa.Column("client_id", Id, sa.ForeignKey("service_client.id"), primary_key=True),
    sa.Column("jti_digest", PlainText, primary_key=True),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)

revoked_token = sa.Table(
    "revoked_token",
    metadata,
    sa.Column("token_id", PlainText, primary_key=True),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)

audit_event = sa.Table(
    "audit_event",
    metadata,
    sa.Column("writer", sa.String(40), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False, index=True),
    sa.Column("actor", PlainText, nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("door", sa.String(16), nullable=False),
    sa.Column("address", PlainText, nullable=False),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("patient_id", Id),
    sa.Column("order_id", Id),
    sa.Column("study_id", Id),
    sa.Column("message_id", Id),
    sa.Column("key_id", sa.String(32), nullable=False),
    sa.Column("mac", sa.LargeBinary, nullable=False),
    # Of a patient; and, where it names none, of images that were nobody's yet.
    sa.Index("ix_audit_event_patient_id", "patient_id", "study_id"),
)

# How far the trail has been sent to each collector: all seals up to this one, and so many rows of the next.
audit_sent = sa.Table(
    "audit_sent",
    metadata,
    sa.Column("collector", sa.String(32), primary_key=True),
    sa.Column("seal", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
)

# The last number of each writer that is under a seal: a help for the sealer, proven by nothing but the seals.
audit_sealed = sa.Table(
    "audit_sealed",
    metadata,
    sa.Column("writer", sa.String(40), primary_key=True),
    sa.Column("through", sa.BigInteger, nullable=False),
)

audit_seal = sa.Table(
    "audit_seal",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("body", Json, nullable=False),
)

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", PlainText, primary_key=True),
    sa.Column("holder", PlainText, nullable=False),
    sa.Column("until", UtcDateTime, nullable=False),
)

counter = sa.Table(
    "counter",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# Who attends a patient in a visit (PV1-7, 8, 9 of messages), until it ends.
care_team = sa.Table(
    "care_team",
    metadata,
    sa.Column("patient_id", Id, sa.ForeignKey("patient.id"), primary_key=True),
    sa.Column("visit_number", PlainText, primary_key=True),
    sa.Column("identifier", PlainText, primary_key=True),
    sa.Column("authority", PlainText, primary_key=True),
    # Null for a stay that no message has ended yet.
    sa.Column("until", UtcDateTime),
    sa.Index("ix_care_team_identifier", "identifier", "authority", "patient_id"),
)

# How confidential a patient is, by what a person decided and by what messages say; the strictest holds, also through a
# merge. No row is "normal". `strictness` follows the label.
patient_label = sa.Table(
    "patient_label",
    metadata,
    sa.Column("patient_id", Id, sa.ForeignKey("patient.id"), primary_key=True),
    # "person" or "message".
    sa.Column("source", sa.String(10), primary_key=True),
    sa.Column("label", sa.String(16), nullable=False, index=True),
    sa.Column("strictness", sa.Integer, nullable=False),
    sa.Column("set_by", PlainText, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
)

# Access for a time to a patient, or to all patients of a label: given by an admin, or taken by breaking the glass.
access_grant = sa.Table(
    "access_grant",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("account", PlainText, nullable=False),
    # "given" or "break-glass".
    sa.Column("kind", sa.String(16), nullable=False),
    # Null too where someone broke the glass for a number that is nobody's: the attempt is reviewed like any other.
    _reference("patient_id", "patient"),
    sa.Column("label", sa.String(16)),
    # The strictest label that the patient had then: what is labelled more strictly later is not covered.
    sa.Column("ceiling", sa.Integer, nullable=False),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("granted_by", PlainText, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("reviewed_at", UtcDateTime),
    sa.Column("reviewed_by", PlainText, nullable=False, server_default=""),
    sa.Column("review", PlainText, nullable=False, server_default=""),
    sa.Index("ix_access_grant_account_expires_at", "account", "expires_at"),
)
sa.Index(
    "ix_access_grant_unreviewed",
    access_grant.c.id,
    sqlite_where=sa.text("kind = 'break-glass' AND reviewed_at IS NULL"),
    postgresql_where=sa.text("kind = 'break-glass' AND reviewed_at IS NULL"),
)

# Rejection notes (IHE RAD TF, Imaging Object Change Management): which instances are not to be used any more, and why.
rejection = sa.Table(
    "rejection",
    metadata,
    sa.Column("id", Id, primary_key=True),
    # The SOP Instance UID of the note, which lies in the archive like any other instance.
    sa.Column("note_uid", Uid, nullable=False, unique=True),
    sa.Column("code", sa.String(6), nullable=False),
    # "waiting" (its sender may not reject: a person decides), "applied", "refused" or "revoked".
    sa.Column("state", sa.String(10), nullable=False),
    # Whether it keeps its instances from sight, as the settings said when it came.
    sa.Column("hides", sa.Boolean, nullable=False),
    sa.Column("study_id", Id, nullable=False, index=True),
    sa.Column("study_instance_uid", Uid, nullable=False, index=True),
    # The patient as the note names it.
    sa.Column("patient_identifier", PlainText, nullable=False),
    sa.Column("made_by", PlainText, nullable=False),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("decided_at", UtcDateTime),
    sa.Column("decided_by", PlainText, nullable=False, server_default=""),
    sa.Column("decision", PlainText, nullable=False, server_default=""),
)

# What a rejection note names, whether it is here already or not.
rejected_instance = sa.Table(
    "rejected_instance",
    metadata,
    sa.Column("rejection_id", Id, sa.ForeignKey("rejection.id"), primary_key=True),
    sa.Column("sop_instance_uid", Uid, primary_key=True, index=True),
    sa.Column("study_instance_uid", Uid, nullable=False, index=True),
)

# Instances that are to go, or that went: hidden at once, their bytes removed after the time of grace.
deletion = sa.Table(
    "deletion",
    metadata,
    sa.Column("id", Id, primary_key=True),
    # "marked", "undone" or "done".
    sa.Column("state", sa.String(10), nullable=False),
    # No reference, since the study's row goes with its last instance.
    sa.Column("study_id", Id, nullable=False, index=True),
    sa.Column("study_instance_uid", Uid, nullable=False, index=True),
    sa.Column("patient_id", Id, index=True),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("asked_by", PlainText, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    # The end of the time of grace.
    sa.Column("until", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("ended_by", PlainText, nullable=False, server_default=""),
    sa.Index("ix_deletion_state_until", "state", "until"),
)

# The instances of a deletion. After it they are the tombstones by which `hilum reindex` does not bring them back.
deleted_instance = sa.Table(
    "deleted_instance",
    metadata,
    sa.Column("deletion_id", Id, sa.ForeignKey("deletion.id"), primary_key=True),
    sa.Column("sop_instance_uid", Uid, primary_key=True),
    sa.Column("digest", PlainText, primary_key=True),
    sa.Column("series_instance_uid", Uid, nullable=False),
    # Where the bytes lie that still have to be removed; null before the deletion is done, and after they are gone.
    sa.Column("object_key", PlainText),
    sa.Column("object_offset", sa.BigInteger),
    sa.Column("object_length", sa.BigInteger),
    sa.Column("dataset_offset", sa.BigInteger),
    sa.Index("ix_deleted_instance_sop_instance_uid", "sop_instance_uid", "digest"),
)
sa.Index(
    "ix_deleted_instance_to_erase",
    deleted_instance.c.deletion_id,
    sqlite_where=deleted_instance.c.object_key.is_not(None),
    postgresql_where=deleted_instance.c.object_key.is_not(None),
)

# Images that nobody may delete, whatever the rules of retention say: of a patient or of one study.
legal_hold = sa.Table(
    "legal_hold",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _reference("patient_id", "patient"),
    sa.Column("study_instance_uid", Uid, index=True),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("set_by", PlainText, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("released_at", UtcDateTime),
    sa.Column("released_by", PlainText, nullable=False, server_default=""),
    sa.Column("release_reason", PlainText, nullable=False, server_default=""),
)

# Bytes in the archive that are no usable instance: torn by a crash, decayed, or refused by the index.
quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", Id, primary_key=True),
    # "torn" or "refused".
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("object_key", PlainText, nullable=False),
    sa.Column("object_offset", sa.BigInteger, nullable=False),
    # Who sent it and when, as far as its record can be read.
    sa.Column("peer", PlainText, nullable=False),
    sa.Column("received_at", PlainText, nullable=False),
    sa.Column("found_at", UtcDateTime, nullable=False),
    sa.Column("resolved_at", UtcDateTime),
    sa.Column("resolved_by", PlainText, nullable=False, server_default=""),
    sa.Column("resolution", PlainText, nullable=False, server_default=""),
    sa.UniqueConstraint("object_key", "object_offset"),
    sa.Index("ix_quarantine_resolved_at_id", "resolved_at", "id"),
)

# Compressed copies of instances, served in their place: one without loss and one with, at most. Its bytes are a whole
# object; without an object the copy could not be made, and is not tried again. No reference: the copy is looked for and
# removed when its instance is gone.
rendition = sa.Table(
    "rendition",
    metadata,
    sa.Column("instance_id", Id, primary_key=True),
    sa.Column("lossless", sa.Boolean, primary_key=True),
    sa.Column("transfer_syntax_uid", Uid, nullable=False),
    # sha256 of the copy's data set; that of the original stays with the instance.
    sa.Column("digest", PlainText, nullable=False),
    sa.Column("object_key", PlainText),
    sa.Column("object_length", sa.BigInteger, nullable=False),
    sa.Column("dataset_offset", sa.BigInteger, nullable=False),
    sa.Column("made_at", UtcDateTime, nullable=False),
)
