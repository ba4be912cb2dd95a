"""When nothing keeps a study any more: by its modalities, its date, the patient's latest exam and age."""

from __future__ import annotations

from datetime import date

import pytest

from hilum.workflow.retention import Dates, Rule, expires_on

OLD = date(2010, 3, 1)
ADULT = Dates(OLD, OLD, date(1960, 1, 1))
TEN_YEARS = Rule((), 10, False, 0)
BREAST = Rule(("MG",), 30, True, 0)
CHILDREN = Rule(("CR", "CT"), 10, False, 28)


@pytest.mark.parametrize(
    ("rules", "modalities", "dates", "expected"),
    [
        ([TEN_YEARS], ["CT"], ADULT, date(2020, 3, 1)),
        ([], ["CT"], ADULT, None),
        ([BREAST], ["CT"], ADULT, None),
        ([TEN_YEARS, BREAST], ["MG"], ADULT, date(2040, 3, 1)),
        ([TEN_YEARS, BREAST], ["CT", "MG"], ADULT, date(2040, 3, 1)),
        ([TEN_YEARS, BREAST], ["MG"], Dates(OLD, date(2020, 5, 5), None), date(2050, 5, 5)),
        ([CHILDREN], ["CT"], Dates(OLD, OLD, date(2009, 6, 7)), date(2037, 6, 7)),
        ([CHILDREN], ["CT"], ADULT, date(2020, 3, 1)),
        ([CHILDREN], ["CT"], Dates(OLD, OLD, None), None),
        ([CHILDREN], ["CT", "US"], ADULT, None),
        ([CHILDREN], ["CT", "SR", "KO", "PR"], ADULT, date(2020, 3, 1)),
        ([TEN_YEARS], ["SR"], ADULT, date(2020, 3, 1)),
        ([TEN_YEARS], [], ADULT, None),
        ([TEN_YEARS], ["CT"], Dates(None, OLD, None), None),
        ([BREAST], ["MG"], Dates(OLD, None, None), None),
        ([TEN_YEARS, Rule((), 5, False, 0)], ["CT"], ADULT, date(2020, 3, 1)),
        ([TEN_YEARS], ["CT"], Dates(date(2012, 2, 29), None, None), date(2022, 3, 1)),
    ],
)  # fmt: skip
def test_a_study_is_kept_as_long_as_any_rule_or_doubt_keeps_it(
    rules: list[Rule], modalities: list[str], dates: Dates, expected: date | None
) -> None:
    assert expires_on(rules, modalities, dates) == expected
