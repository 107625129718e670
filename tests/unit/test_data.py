"""The passengers: what is read, what is refused and how, splits and features."""

import hashlib
import re
import runpy
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from course import data
from course.checked_csv import integer, read_rows, real
from course.data import DataError, Features, find_kaggle, folds, labels, load_titanic, split

TITANIC3 = "pclass,survived,name,sex,age,sibsp,parch,ticket,fare,cabin,embarked,boat,body,home.dest"
ROWS = [
    '1,1,"Allen, Miss. Elisabeth Walton",female,29,0,0,24160,211.3375,B5,S,2,,"St Louis, MO"',
    '3,0,"Moor, Master. Meier",male,0.8333,0,1,392096,12.475,E121,S,14,,',
    '2,0,"Kantor, Mr. Sinai",male,,1,0,244367,26,,S,,283,"Moscow / Bronx, NY"',
]
KAGGLE = "PassengerId,Survived,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked"


@pytest.fixture(scope="module")
def passengers():
    return load_titanic()


@pytest.fixture
def table(tmp_path):
    """Write a table and return its path; replacements are made in the text of a good one."""

    def write(*replacements, header=TITANIC3, rows=ROWS, encoding="utf-8"):
        text = "\n".join([header, *rows]) + "\n"
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def kaggle_text(passengers, labelled=True):
    """The passengers under Kaggle's header, in Kaggle's order of columns."""
    frame = passengers.head(60).rename(columns={name: column.alias for name, column in data.COLUMNS.items()})
    frame.insert(0, "PassengerId", range(1, 61))
    wanted = [name for name in KAGGLE.split(",") if labelled or name != "Survived"]
    return frame[wanted].to_csv(index=False)


def test_the_embedded_table_is_titanic3(passengers):
    assert passengers.shape == (1309, 14)
    assert passengers["survived"].sum() == 500
    missing = passengers.isna().sum()
    assert missing[["age", "fare", "cabin", "embarked"]].to_dict() == {
        "age": 263,
        "fare": 1,
        "cabin": 1014,
        "embarked": 2,
    }
    assert hashlib.sha256(data.EMBEDDED.read_bytes()).hexdigest() == data.SHA256
    assert passengers.dtypes[["survived", "pclass", "sibsp", "parch"]].eq("int64").all()
    assert passengers.dtypes[["age", "fare"]].eq("float64").all()


def test_a_damaged_embedded_table_is_refused(monkeypatch, table):
    monkeypatch.setattr(data, "EMBEDDED", table())
    with pytest.raises(DataError, match="SHA-256"):
        load_titanic()


@pytest.mark.parametrize("sha256", ["0" * 64, "f" * 64])
def test_a_table_with_another_checksum_is_refused(sha256):
    with pytest.raises(DataError, match=f"SHA-256 {sha256}, got another file"):
        read_rows(data.EMBEDDED, sha256)


def test_without_the_table_its_place_in_a_checkout_is_named(monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    assert runpy.run_path(data.__file__)["EMBEDDED"] == data.EMBEDDED


def test_kaggles_table_gives_the_same_model_columns(passengers, tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(kaggle_text(passengers), "utf-8")
    frame = load_titanic(path)
    pd.testing.assert_frame_equal(frame[list(data.COLUMNS)], passengers.head(60)[list(data.COLUMNS)])
    assert frame["PassengerId"].tolist()[:2] == ["1", "2"]
    features = Features.fit(passengers)
    np.testing.assert_array_equal(features(frame), features(passengers.head(60)))


def test_kaggles_test_table_has_no_labels(passengers, tmp_path):
    path = tmp_path / "test.csv"
    path.write_text(kaggle_text(passengers, labelled=False), "utf-8")
    frame = load_titanic(path, labelled=False)
    assert "survived" not in frame and len(frame) == 60
    with pytest.raises(DataError, match=r"'Survived'.*labelled=False"):
        load_titanic(path)


@pytest.mark.parametrize("folder", ["titanic", "competitions/titanic", "datasets/someone/some-slug"])
def test_kaggles_files_are_found_wherever_they_are_mounted(passengers, tmp_path, folder):
    other = tmp_path / "a-first" / "train.csv"  # another competition's train.csv is not taken
    mine = tmp_path / folder / "train.csv"
    for path, text in ((other, "id,target\n1,0\n"), (mine, kaggle_text(passengers))):
        path.parent.mkdir(parents=True)
        path.write_text(text, "utf-8")
    assert find_kaggle(root=tmp_path) == mine
    assert find_kaggle("test.csv", root=tmp_path) is None
    assert find_kaggle(root=tmp_path / "nowhere") is None


def test_a_good_small_table_passes(table):
    frame = load_titanic(table())
    assert frame["age"].isna().tolist() == [False, False, True]
    assert frame["fare"].tolist() == [211.3375, 12.475, 26.0]


def test_a_table_may_hold_one_passenger_and_end_without_a_line_break(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\n".join([TITANIC3, ROWS[0]]), "utf-8")
    assert load_titanic(path)["home.dest"].tolist() == ["St Louis, MO"]
    whole = "\n".join([TITANIC3, ROWS[0], ROWS[2].replace('"Moscow / Bronx, NY"', "")])
    path.write_text(whole, "utf-8")
    with pytest.raises(DataError, match=r"row 3, column 'home.dest': expected a value or a line break"):
        load_titanic(path)
    path.write_text(whole + "\n", "utf-8")
    assert len(load_titanic(path=path)) == 2


def test_what_is_at_the_bound_passes(table):
    frame = load_titanic(table(("0.8333", "120"), ("12.475", "0")))
    assert frame["age"][1] == 120 and frame["fare"][1] == 0


def test_of_several_passengers_twice_the_first_is_named_by_row(table):
    """Others have the same name, or travel on the same ticket."""
    of = '1,1,"{}",female,29,0,0,{},211.3375,B5,S,2,,"St Louis, MO"'.format
    twice = [of("M", 5), of("M", 4), of("M", 6), of("K", 5), of("Z", 5), of("X", 7), of("M", 5), of("M", 5), of("X", 7)]
    with pytest.raises(DataError, match=r"rows 2 and 8, columns name and ticket: .*'M' with ticket '5' twice"):
        load_titanic(table(rows=twice))


def test_a_byte_order_mark_is_no_fault(table):
    assert len(load_titanic(table(encoding="utf-8-sig"))) == 3


FAULTS = {
    "a label of 2": (("1,1,", "1,2,"), r"row 2, column 'survived': expected 0 or 1, got '2'; correct"),
    "an empty label": (("1,1,", "1,,"), r"row 2, column 'survived': expected 0 or 1, got ''"),
    "class 4": (("2,0,", "4,0,"), r"row 4, column 'pclass': expected 1, 2 or 3, got '4'"),
    "a negative age": (("0.8333", "-3"), r"row 3, column 'age': expected years, above 0 and up to 120, got '-3'"),
    "an age of 0": (("0.8333", "0"), r"row 3, column 'age': .*got '0'"),
    "an age just above 120": (("0.8333", "120.5"), r"row 3, column 'age': .*got '120.5'"),
    "a negative count": ((",1,0,244367", ",-1,0,244367"), r"row 4, column 'sibsp': expected a count.*got '-1'"),
    "another negative count": ((",1,0,244367", ",1,-1,244367"), r"row 4, column 'parch': expected a count.*got '-1'"),
    "an age of 400": (("0.8333", "400"), r"row 3, column 'age': .*got '400'; correct.*leave the field empty"),
    "text in a number": (("0.8333", "ten"), r"row 3, column 'age': .*got 'ten'"),
    "nan in a number": (("0.8333", "nan"), r"row 3, column 'age': .*got 'nan'"),
    "inf in a number": (("12.475", "inf"), r"row 3, column 'fare': .*got 'inf'"),
    "a thousands separator": (("211.3375", "1_000"), r"row 2, column 'fare': .*got '1_000'"),
    "a fare of 400 digits": (("12.475", "9" * 400), r"row 3, column 'fare': expected pounds, 0 or more, got '9{400}'"),
    "a fare in other digits": (("12.475", "١٢"), r"row 3, column 'fare': .*got '١٢'"),
    "an integer in other digits": ((",1,0,244367", ",１,0,244367"), r"row 4, column 'sibsp': .*got '１'"),
    "an integer with an underscore": ((",1,0,244367", ",1_0,0,244367"), r"row 4, column 'sibsp': .*got '1_0'"),
    "an integer of 30 digits": ((",1,0,244367", f",{10**29},0,244367"), r"row 4, column 'sibsp': .*got '1(0){29}'"),
    "an integer of 64 bits and more": ((",1,0,244367", f",{2**63},0,244367"), r"row 4, column 'sibsp': .*got '9223"),
    "a negative fare": (("12.475", "-1"), r"row 3, column 'fare': expected pounds, 0 or more, got '-1'"),
    "half a sibling": ((",1,0,244367", ",0.5,0,244367"), r"row 4, column 'sibsp': expected a count.*got '0.5'"),
    "a third sex": (("female", "woman"), r"row 2, column 'sex': expected 'female' or 'male', got 'woman'"),
    "a stray space": (("male,0.8333", " male,0.8333"), r"row 3, column 'sex': .*got ' male'"),
    "an unknown port": (("B5,S", "B5,X"), r"row 2, column 'embarked': expected 'C', 'Q' or 'S', got 'X'"),
    "no name": (('"Kantor, Mr. Sinai"', ""), r"row 4, column 'name': expected a name, got ''"),
    "a renamed column": (("fare", "price_fare"), r"row 1: expected a column 'fare'.*; rename 'price_fare' to 'fare'"),
    "a column gone": (("sibsp", "x"), r"row 1: expected a column 'sibsp', got .*; fetch the file again$"),
    "a column gone that others resemble": ((",age,", ",x,"), r"expected a column 'age', got .*; fetch the file again$"),
    "another column gone": (("ticket", "zz"), r"row 1: expected a column 'ticket', got .*; fetch the file again$"),
    "a column twice": (("parch", "sibsp"), r"row 1: expected every column once, got 'sibsp' twice"),
    "a row too short": ((",392096,12.475,E121,S,14,,", ",392096"), r"row 3: expected 14 fields, got 8"),
    "a row too long": (
        ("29,0,0", "29,0,0,0"),
        r"row 2: expected 14 fields, got 15 \('1,1,Allen, Miss. Elisabeth Walton,female,29,0,0,0,24160,211.'\); the",
    ),
    "an empty line": (("\n3,0,", "\n\n3,0,"), r"row 3: expected a passenger, got an empty line"),
    "an open quote": (('"St Louis, MO"', '"St Louis, MO'), r"row 2: expected a complete row"),
    "the same passenger twice": (
        (ROWS[2], ROWS[2] + "\n" + ROWS[0]),
        r"rows 2 and 5, columns name and ticket: .*'Allen, Miss. Elisabeth Walton' with ticket '24160' twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_file_row_column_value_and_remedy(table, fault):
    replacement, message = FAULTS[fault]
    path = table(replacement)
    with pytest.raises(DataError, match=message) as raised:
        load_titanic(path)
    assert str(path) in str(raised.value) and ";" in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: expected a CSV file"):
        load_titanic(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a header and at least one passenger, got an empty file"),
        (b"\n", "row 1: expected a passenger, got an empty line"),
        (TITANIC3.encode(), "expected a header and at least one passenger, got a header without rows"),
        (TITANIC3.encode() + b"\n", "expected a header and at least one passenger, got a header without rows"),
        (b"everything", "row 1: expected columns separated by commas, got the single column 'everything'"),
        (b"\n\xfc", "row 2: expected UTF-8 text, got the byte 0xfc"),
    ],
)
def test_an_empty_file_is_refused(tmp_path, content, message):
    (tmp_path / "empty.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"empty\.csv: {message}"):
        load_titanic(tmp_path / "empty.csv")


@pytest.mark.parametrize("gone", ["Age", "Name", "Ticket"])
def test_a_column_of_kaggles_that_is_gone_is_named_in_kaggles_way(passengers, tmp_path, gone):
    """Without labels too; and no other column of the table is taken for the one that is missing."""
    path = tmp_path / "test.csv"
    path.write_text(kaggle_text(passengers, labelled=False).replace(f",{gone},", ",X,", 1), "utf-8")
    with pytest.raises(DataError, match=f"expected a column '{gone}', got PassengerId, .*; fetch the file again$"):
        load_titanic(path, labelled=False)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_wrong_delimiter_is_named(tmp_path, separator):
    path = tmp_path / "table.csv"
    path.write_text("\n".join([TITANIC3.replace(",", separator), ROWS[2].replace(",", separator)]), "utf-8")
    with pytest.raises(
        DataError, match=rf"row 1: expected columns separated by commas, got {re.escape(repr(separator))}"
    ):
        load_titanic(path)


def test_a_wrong_encoding_is_named(table):
    with pytest.raises(DataError, match=r"row 4: expected UTF-8 text, got the byte 0xfc"):
        load_titanic(table(("Kantor", "Küntor"), encoding="latin-1"))
    with pytest.raises(DataError, match=r"UTF-8"):
        load_titanic(table(encoding="utf-16"))


@given(st.integers(-(10**30), 10**30) | st.integers(-(2**63) - 2, 2**63 + 2))
@example(-(2**63))
@example(-(2**63) - 1)
@example(2**63 - 1)
@example(2**63)
def test_integers_are_read_as_they_are_or_refused(number):
    if -(2**63) <= number < 2**63:
        assert integer(str(number)) == np.int64(number)
    else:
        with pytest.raises(ValueError):
            integer(str(number))


@given(st.text() | st.from_regex(r"\A[+-]?[\d_.e ]{1,400}\Z"))
def test_what_is_read_as_a_number_is_plain_and_finite(text):
    for parse in (integer, real):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert set(text) <= set("+-.0123456789") and np.isfinite(float(value)) and value == type(value)(text)


@given(st.integers(min_value=1))
def test_a_file_cut_off_anywhere_never_gives_a_changed_table(tmp_path_factory, cut):
    """Cut anywhere: either an error, or exactly the rows that are whole."""
    whole = "\n".join([KAGGLE, '1,0,3,"Braund, Mr. Owen",male,22,1,0,A/5 21171,7.25,,S',
                       '2,1,1,"Cumings, Mrs. John",female,38,1,0,PC 17599,71.2833,C85,C', ""])  # fmt: skip
    path = tmp_path_factory.mktemp("cut") / "train.csv"
    path.write_text(whole[: cut % len(whole)], "utf-8")
    try:
        frame = load_titanic(path)
    except DataError:
        return
    assert frame["embarked"].tolist() in (["S"], ["S", "C"])
    assert frame["fare"].tolist() == [7.25, 71.2833][: len(frame)]


def test_splits_are_stratified_disjoint_and_reproducible(passengers):
    parts = split(passengers, seed=0)
    assert sorted(np.concatenate([part.index for part in parts])) == list(range(1309))
    assert [len(part) for part in parts] == [837, 210, 262]
    share = passengers["survived"].mean()
    assert all(abs(part["survived"].mean() - share) < 0.005 for part in parts)
    again, other = split(passengers, seed=0), split(passengers, seed=1)
    assert all(a.equals(b) for a, b in zip(parts, again, strict=True))
    assert not parts.train.index.equals(other.train.index)


@pytest.mark.parametrize(
    "shares",
    [{"test": 0.0}, {"test": -0.1}, {"valid": 0.5, "test": 0.5}, {"valid": 0.4, "test": 0.7}, {"valid": 0.0},
     {"valid": -0.1}],
)  # fmt: skip
def test_a_split_that_leaves_nothing_is_refused(passengers, shares):
    with pytest.raises(ValueError, match="expected valid and test above 0"):
        split(passengers, 0, **shares)


def test_folds_cover_everybody_once(passengers):
    tested = []
    for train, test in folds(passengers, seed=0):
        assert not set(train.index) & set(test.index)
        assert abs(test["survived"].mean() - passengers["survived"].mean()) < 0.005
        tested += test.index.tolist()
    assert sorted(tested) == list(range(1309))


def test_folds_depend_on_the_seed_alone(passengers):
    first, again, other = (next(iter(folds(passengers, seed)))[1].index.tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert len(list(folds(passengers, 0, k=3))) == 3


def test_features_are_fitted_on_the_training_split_alone(passengers):
    train, _, test = split(passengers, 0)
    features = Features.fit(train)
    assert features.fill == {"age": train["age"].median(), "fare": train["fare"].median(), "embarked": "S"}
    x = features(train)
    assert x.shape == (len(train), len(data.FEATURES)) and x.dtype == np.float32
    np.testing.assert_allclose(x[:, :4].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(x[:, :4].std(axis=0, dtype=np.float64), 1, atol=1e-6)
    changed = test.assign(age=test["age"] + 50)  # what others look like changes nothing
    np.testing.assert_array_equal(features(changed)[:, 1:], features(test)[:, 1:])
    assert np.isfinite(features(passengers)).all()


def test_features_of_one_passenger_by_hand(passengers):
    features = Features.fit(passengers)
    row = dict(zip(data.FEATURES, features(passengers.head(1))[0], strict=True))
    mean, scale = features.mean, features.scale
    assert row["age"] == pytest.approx((29 - mean[0]) / scale[0], abs=1e-6)
    assert row["fare"] == pytest.approx((np.log1p(211.3375) - mean[1]) / scale[1], abs=1e-6)
    flags = {name for name, value in row.items() if value == 1.0}
    assert flags >= {"class_1", "female", "from_S", "title_Miss"}
    assert row["class_2"] == row["from_C"] == row["title_Mr"] == 0.0


def test_flags_are_those_of_every_passenger(passengers):
    features = Features.fit(passengers)
    flags = pd.DataFrame(features(passengers), columns=data.FEATURES).iloc[:, 4:]
    port, title = passengers["embarked"].fillna("S"), passengers["name"].str.extract(r", ([^.]+)\.", expand=False)
    expected = [passengers["pclass"].eq(k) for k in (1, 2, 3)] + [passengers["sex"].eq("female")]
    expected += [port.eq(each) for each in "CQS"] + [title.eq(each) for each in ("Mr", "Mrs", "Miss", "Master")]
    np.testing.assert_array_equal(flags, np.column_stack(expected))
    with pytest.raises(FrozenInstanceError):
        features.mean = 0


def test_a_missing_value_gets_the_training_median(passengers):
    features = Features.fit(passengers)
    unknown = passengers.head(1).assign(age=np.nan, fare=np.nan, embarked=None)
    known = passengers.head(1).assign(age=features.fill["age"], fare=features.fill["fare"], embarked="S")
    np.testing.assert_array_equal(features(unknown), features(known))


def test_leaking_columns_are_no_features(passengers):
    blind = passengers.assign(boat="?", body="?", survived=0)
    features = Features.fit(passengers)
    np.testing.assert_array_equal(features(blind), features(passengers))


def test_labels_are_float32(passengers):
    y = labels(passengers)
    assert y.shape == (1309,) and y.dtype == np.float32 and set(y) == {0.0, 1.0}
    assert labels(passengers.assign(survived=True)).tolist() == [1.0] * 1309


NUMBERS = ["age", "fare", "sibsp", "parch"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, 0.1, 7.25])
def test_a_column_that_does_not_vary_says_nothing(passengers, name, value):
    """Its deviation is 0, or what rounding leaves of it: divided by that, others would be inf, NaN or 1e15."""
    constant = passengers.assign(**{name: value})
    features = Features.fit(constant)
    assert features.scale[NUMBERS.index(name)] == 1
    np.testing.assert_allclose(features(constant)[:, NUMBERS.index(name)], 0, atol=1e-12)
    assert np.abs(features(passengers)).max() < 1000


def test_one_passenger_is_enough_to_fit(passengers):
    assert np.isfinite(Features.fit(passengers.head(1))(passengers)).all()
    assert Features.fit(passengers)(passengers.head(0)).shape == (0, 15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.head(0), "whose 'age' is known, got 0 without; fit on more"),
        (lambda p: p.assign(age=np.nan), "whose 'age' is known, got 1309 without"),
        (lambda p: p.assign(fare=np.nan), "whose 'fare' is known"),
        (lambda p: p.assign(embarked=None), "whose 'embarked' is known"),
        (lambda p: p.drop(columns="fare"), r"expected a column 'fare', got \['survived'.*read the table with load_"),
        (lambda p: p.rename(columns={"pclass": "Pclass"}), "expected a column 'pclass'"),
        (lambda p: p.assign(pclass=p["pclass"].astype(str)), "'pclass', got '1' .(object|str). in row 0"),
        (lambda p: p.assign(pclass=4), "expected 1, 2 or 3 in column 'pclass', got '4'"),
        (lambda p: p.assign(sex=1), "'female' or 'male' in column 'sex', got '1'"),
        (lambda p: p.assign(embarked="Southampton"), "'C', 'Q' or 'S' in column 'embarked', got 'Southampton'"),
        (lambda p: p.assign(fare=-2.0), "pounds, 0 or more in column 'fare', got '-2.0'"),
        (lambda p: p.assign(fare=-0.5), "in column 'fare', got '-0.5'"),
        (lambda p: p.assign(fare=p["fare"].where(~p.index.isin([3, 7]), -2.0)), "got '-2.0' .float64. in row 3"),
        (lambda p: p.assign(fare=np.inf), "in column 'fare', got 'inf'"),
        (lambda p: p.assign(sibsp=np.nan), "a count, 0 or more in column 'sibsp', got 'nan'"),
        (lambda p: p.assign(parch=1e300), "in column 'parch', got '1e[+]300'"),
        (lambda p: p.assign(parch=1e19), "in column 'parch', got '1e[+]19'"),
        (lambda p: p.assign(age=1e300), "in column 'age', got '1e[+]300'"),
        (lambda p: p.assign(age="old"), "in column 'age', got 'old'"),
        (lambda p: p.assign(name=None), "a name in column 'name', got 'None'"),
    ],
)
def test_tables_of_other_makes_are_refused(passengers, change, message):
    with pytest.raises(ValueError, match=message):
        Features.fit(change(passengers))


def test_counts_of_63_bits_are_numbers(passengers):
    assert np.isfinite(Features.fit(passengers)(passengers.assign(sibsp=9 * 10**18))).all()


@pytest.mark.parametrize("use", [labels, lambda p: split(p, 0), lambda p: next(folds(p, 0))])
def test_tables_without_labels_are_refused(passengers, use):
    with pytest.raises(ValueError, match="expected a table with the column 'survived'"):
        use(passengers.drop(columns="survived"))
    with pytest.raises(ValueError, match="expected labels 0 or 1 in 'survived'"):
        use(passengers.assign(survived=2 * passengers["survived"]))
