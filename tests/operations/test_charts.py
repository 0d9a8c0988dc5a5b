"""Charts as SVG: what is known is drawn, what is not is a gap, and nothing is markup."""

from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from aevon.operations.charts import Chart, Series, gaps, runs, ticks

SVG = "{http://www.w3.org/2000/svg}"
HOURS = [1_764_316_800.0 + 900 * n for n in range(8)]
VALUES = st.lists(
    st.none() | st.floats(0, 1e12, allow_subnormal=False), min_size=len(HOURS), max_size=len(HOURS)
)


def chart(*series: Series, **options: object) -> Chart:
    """Over two hours."""
    return Chart("c", "Title", "unit", HOURS, series, **options)  # type: ignore[arg-type]


def parsed(found: Chart) -> ElementTree.Element:
    """As XML, which it has to be."""
    return ElementTree.fromstring(found.svg.replace("<svg", f'<svg xmlns="{SVG[1:-1]}"', 1))


def test_a_line_breaks_where_nothing_is_known() -> None:
    """Two pieces and a dot; the time between is shaded."""
    root = parsed(chart(Series("a", [1, 2, None, None, 3, None, 4, 5])))
    [path] = root.findall(f"{SVG}path")
    assert path.get("d", "").count("M") == 2
    assert len(root.findall(f"{SVG}circle")) == 1
    assert len([r for r in root.findall(f"{SVG}rect") if r.get("class") == "gap"]) == 2


def test_what_one_series_knows_is_no_gap() -> None:
    """Only what nobody knows."""
    lines = [Series("a", [1, None, None]), Series("b", [None, None, 2])]
    assert list(gaps(lines, 3)) == [(1, 2)]
    assert list(runs([None, 1, 2, None, 3])) == [[(1, 1), (2, 2)], [(4, 3)]]


def test_bars_stand_where_something_was() -> None:
    """Nothing is no bar, and no gap."""
    root = parsed(chart(Series("a", [0, 3, None, 4, None, None, None, 0]), bars=True))
    assert [r.get("class") for r in root.findall(f"{SVG}rect")] == ["bar s0"] * 2


def test_it_can_be_read_without_being_seen() -> None:
    """Title, description, axis labels with their unit, and the same numbers in rows."""
    found = chart(
        Series("a", [None, 10, 30, 20, None, None, None, 25]), show=lambda v: f"{v:.0f} !"
    )
    root = parsed(found)
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "c-title c-text")
    assert root.findtext(f"{SVG}title") == "Title, unit"
    assert root.findtext(f"{SVG}desc") == "a: 25 ! last, between 10 ! and 30 !"
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert {"unit", "0 !", "30 !", "08:00", "09:00"} <= set(texts)
    assert found.rows == [
        ("Fri 09:45", ["25 !"]), ("Fri 08:45", ["20 !"]), ("Fri 08:30", ["30 !"]),
        ("Fri 08:15", ["10 !"]),
    ]  # fmt: skip


def test_nothing_in_it_becomes_markup() -> None:
    """Names come from labels, which anybody may have counted under."""
    found = chart(Series('"><script>x</script>', [1] * 8), Series("&", [2] * 8))
    assert "<script" not in found.svg + found.legend
    assert "&lt;script" in found.svg
    parsed(found)


def test_an_empty_chart_says_so() -> None:
    """And is drawn, shaded from end to end."""
    found = chart(Series("a", [None] * 8))
    assert found.is_empty
    assert found.rows == []
    assert len(parsed(found).findall(f"{SVG}rect")) == 1


@settings(max_examples=50)
@given(VALUES, st.booleans())
def test_every_value_lies_within_the_picture(values: list[float | None], bars: bool) -> None:
    """Whatever the numbers are."""
    root = parsed(chart(Series("a", values), bars=bars))
    for path in root.findall(f"{SVG}path"):
        for point in path.get("d", "").replace("M", "L").split("L")[1:]:
            x, y = map(float, point.split())
            assert 0 <= x <= 440
            assert 0 <= y <= 200


@settings(max_examples=50)
@given(st.floats(0, 1e12), st.floats(1e-6, 1e12))
def test_ticks_are_round_and_few_and_reach(lowest: float, length: float) -> None:
    """From below the lowest value to above the highest."""
    found = ticks(lowest, lowest + length)
    assert 2 <= len(found) <= 7
    slack = 1e-6 * (1 + lowest + length)
    assert found[0] <= lowest + slack
    assert found[-1] >= lowest + length - slack


def test_ticks_of_the_usual_axes() -> None:
    """Percent, and a handful."""
    assert ticks(0, 100) == [0, 50, 100]
    assert ticks(0, 3) == [0, 1, 2, 3]
    assert ticks(99, 100) == [99, 99.5, 100]
