"""From annotation files to tables: what is refused and how, what labels become, and that text stays text."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from video_env.data.annotations import Annotations, read_csv
from video_env.errors import InputError

GOOD = "video,path,label,split\na,a.mp4,cat,train\nb,sub/b.mp4,dog,val\n"


def annotations(folder: Path, text: str) -> Path:
    file = folder / "annotations.csv"
    file.write_text(text)
    return file


def test_csv_reads_names_numbers_and_several_labels(tmp_path: Path) -> None:
    read = read_csv(annotations(tmp_path, GOOD), tmp_path)
    assert read.classes == ("cat", "dog")
    assert read.table["label"].tolist() == [0, 1]
    assert read.table["split"].tolist() == ["train", "validation"]
    several = read_csv(annotations(tmp_path, GOOD.replace("cat", "2;0").replace("dog", "1")), tmp_path)
    assert several.classes == ("0", "1", "2")
    assert several.table["labels"].tolist() == [[2, 0], [1]]
    assert several.table["label"].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable CSV"),
        (
            GOOD.replace("cat", "-1").replace("dog", "7"),
            "row 2, column label: found '-1', expected a whole number",
        ),
        ("video,path,label,split\n", "no rows"),
        (GOOD.replace("label", "class"), "no column label; found video, path, class, split"),
        (GOOD.replace("b,sub", "a,sub"), r"row 3, column video: found 'a'"),
        (GOOD.replace("val", "dev"), r"row 3, column split: found 'dev', expected train, validation, test"),
        (GOOD.replace("sub/", "../"), r"row 3, column path: found '../b.mp4', expected a path inside"),
        (GOOD.replace("sub/b.mp4", "/etc/passwd"), r"row 3, column path"),
        (GOOD.replace("dog", ""), r"row 3, column label: found ''"),
    ],
)
def test_csv_faults_name_file_row_and_expectation(tmp_path: Path, text: str, message: str) -> None:
    file = annotations(tmp_path, text)
    with pytest.raises(InputError, match=message) as error:
        read_csv(file, tmp_path)
    assert str(file) in str(error.value)


def test_csv_rows_are_counted_as_in_the_file(tmp_path: Path) -> None:
    text = "video,path,label,split\r\n\r\na,a.mp4,cat,train\r\n\r\nb,b.mp4,dog,dev\r\n"
    with pytest.raises(InputError, match="row 5, column split: found 'dev'"):
        read_csv(annotations(tmp_path, text), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("a,a.mp4,cat,train", "a,a.mp4,cat,train,extra"), "not a readable CSV"),
        (
            GOOD.replace("split\n", "split,labels\n").replace("train\n", "train,x\n"),
            "column labels has a meaning",
        ),
        (
            GOOD.replace("split\n", "split,start\n").replace("train\n", "train,inf\n"),
            "column start: found 'inf'",
        ),
        (
            GOOD.replace("split\n", "split,start,end\n").replace("train\n", "train,5,2\n"),
            "column start: found '5.0', expected less",
        ),
    ],
)
def test_csv_faults_of_other_columns(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_csv(annotations(tmp_path, text), tmp_path)


def test_csv_label_given_twice_counts_once_and_links_may_leave(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "sub").symlink_to(tmp_path / "elsewhere")
    read = read_csv(
        annotations(tmp_path, GOOD.replace("cat", "dog;dog").replace("dog,val", "cat;dog,val")),
        tmp_path / "videos",
    )
    assert read.table["labels"].tolist() == [[1], [0, 1]]
    assert read.table["path"].tolist() == ["a.mp4", "sub/b.mp4"]


def test_csv_and_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_csv(tmp_path / "none.csv", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_csv(annotations(tmp_path, GOOD), tmp_path / "none")


def labelled(folder: Path, *labels: str, classes: object = None, split: str = "train") -> Annotations:
    """Read a file with these labels, one video each, row 2 being the first."""
    rows = "".join(f'v{number},v{number}.mp4,"{label}",{split}\n' for number, label in enumerate(labels))
    return read_csv(annotations(folder, "video,path,label,split\n" + rows), folder, classes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("1", "2", "1O", "10"), "row 4, column label: found '1O', which is no number, where 3 of 4"),
        (("cat", "dog", "3", "cow"), "row 4, column label: found '3', which is a number, where 1 of 4"),
        (("1", "2", "²"), "row 4, column label: found '²', which is no number"),
        (("1", "2;3", "3;x"), "row 4, column label: found 'x', which is no number, where 4 of 5"),
        (("0", "1", "+1"), r"row 4, column label: found '\+1', expected a whole number from 0"),
        (("0", "1.0"), "row 3, column label: found '1.0', expected a whole number from 0"),
        (("0", "-1"), "row 3, column label: found '-1', expected a whole number from 0"),
        (
            ("0", "１"),
            "row 3, column label: found '１', expected a whole number from 0, in the digits 0 to 9",
        ),
        (("0", "1e5"), "row 3, column label: found '1e5', which is no number"),
        (("0", "nan"), "row 3, column label: found 'nan', which is no number"),
        (("1", "01"), "row 3, column label: found '01', which is '1' elsewhere"),
        (
            ("0", "20230101"),
            "row 3, column label: found '20230101', expected a number below 100, as there are 2",
        ),
        (("0", "99999999999"), "row 3, column label: found '99999999999', expected a number below 100"),
        (("0", "9" * 5000), "row 3, column label: found '9999.*expected a number below 100"),
        ((*map(str, range(20)), "210"), "row 22, column label: found '210', expected a number below 210"),
    ],
)
def test_labels_that_may_be_a_mistake_are_refused_with_their_row(
    tmp_path: Path, labels: tuple[str, ...], message: str
) -> None:
    tracemalloc.start()
    with pytest.raises(InputError, match=message):
        labelled(tmp_path, *labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20  # no class was made for every number below


def test_numbers_are_kept_as_they_are_and_as_they_are_written(tmp_path: Path) -> None:
    read = labelled(tmp_path, "00003", "00001", "0")
    assert read.table["label"].tolist() == [3, 1, 0]
    assert read.classes == ("0", "00001", "2", "00003")
    assert labelled(tmp_path, "99").classes == tuple(map(str, range(100)))
    assert len(labelled(tmp_path, *map(str, range(20)), "209").classes) == 210  # a subset of a numbering


def test_names_stay_the_text_that_they_are(tmp_path: Path) -> None:
    read = labelled(tmp_path, "NA", "nan", "TRUE", "1e5", "NA", "null")
    assert read.classes == ("1e5", "NA", "TRUE", "nan", "null")
    assert [read.classes[label] for label in read.table["label"]] == [
        "NA",
        "nan",
        "TRUE",
        "1e5",
        "NA",
        "null",
    ]


def test_a_class_list_decides(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes("\ufeffrun\r\njump\r\n3D\r\n".encode())
    for classes in (file, str(file), ["run", "jump", "3D"]):
        read = labelled(tmp_path, "jump", "0", "2;jump", "3D", "run;0", classes=classes)
        assert read.classes == ("run", "jump", "3D")
        assert read.table["labels"].tolist() == [[1], [0], [2, 1], [2], [0]]
    sparse = labelled(tmp_path, "4", "998", classes=[f"class {number}" for number in range(1000)])
    assert sparse.table["label"].tolist() == [4, 998]
    # Names that are numbers themselves are names: "1" is the first class, not the second.
    named = labelled(tmp_path, "1", "3", classes=["1", "2", "3"])
    assert named.table["label"].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (
            "run\njump\n",
            "jmup",
            r"row 2, column label: found 'jmup', expected one of the 2 names .*run, jump",
        ),
        ("run\njump\n", "2", "row 2, column label: found '2', expected .* or a number from 0 to 1"),
        ("run\njump\n", "-1", "row 2, column label: found '-1', expected .* or a number from 0 to 1"),
        (
            "1\n2\n",
            "0",
            r"row 2, column label: found '0', expected one of the 2 names of the class list \(1, 2\)$",
        ),
        ("", "0", r"class list .*classes.txt: empty"),
        ("\n \n", "0", r"class list .*classes.txt: empty"),
        ("run\n\njump\n", "0", r"class list .*classes.txt, line 2: found nothing"),
        ("run\njump\nrun\n", "0", r"class list .*classes.txt, line 3: found 'run', which is in line 1"),
        ("r\xfcn\n", "0", r"class list .*classes.txt: no text in UTF-8"),
    ],
)
def test_faults_of_a_class_list(tmp_path: Path, names: str, label: str, message: str) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes(names.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        labelled(tmp_path, label, classes=file)


def test_a_class_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"class list .*none.txt: cannot be read \(No such file"):
        labelled(tmp_path, "0", classes=tmp_path / "none.txt")


def test_any_label_ends_in_a_table_or_in_its_row(tmp_path: Path) -> None:
    """Never in another exception; and a table's labels are positions among its classes."""
    generator = np.random.default_rng(0)
    pieces = [
        "0",
        "1",
        "9",
        "00",
        "-",
        "+",
        ".",
        "e",
        "NA",
        "²",
        "１",
        "٣",
        "½",
        "Ⅷ",
        " ",
        ";",
        "_",
        "x",
        "\t",
        "∞",
    ]
    taken, refused = 0, []
    for _ in range(400):
        labels = ["".join(generator.choice(pieces, generator.integers(1, 4))) for _ in range(2)]
        try:
            read = labelled(tmp_path, *labels)
        except InputError as error:
            refused.append(str(error))
            continue
        taken += 1
        several = read.table["labels"] if "labels" in read.table else [[one] for one in read.table["label"]]
        for label, numbers in zip(labels, several, strict=True):
            texts = dict.fromkeys(filter(None, map(str.strip, label.split(";"))))
            assert [read.classes[number] for number in numbers] == list(texts)
    assert taken > 50
    assert refused
    assert all("column label: found" in message for message in refused)


def test_reading_says_what_was_found(tmp_path: Path) -> None:
    rows = [
        "a,a.mp4,0,train",
        "b,b.mp4,1,train",
        "c,./a.mp4,2,test",
        "d,d.mp4,5,val",
        "e,d.mp4,0,test",
        "f,d.mp4,1,test",
    ]
    read = read_csv(annotations(tmp_path, "video,path,label,split\n" + "\n".join(rows)), tmp_path)
    assert read.videos_per_split == {"train": 2, "validation": 1, "test": 3}
    assert read.classes_without_training == ("2", "3", "4", "5")
    assert read.files_in_several_splits == {"a.mp4": ("train", "test"), "d.mp4": ("validation", "test")}
    assert read.summary() == [
        "videos: 2 train, 1 validation, 3 test; classes: 6",
        "classes without a training video: 4 (2, 3, 4, 5)",
        "files in more than one split: 2 (a.mp4 in train and test, d.mp4 in validation and test)",
    ]
    several = labelled(tmp_path, "0;1", "1;2")
    assert several.classes_without_training == ()
    assert several.summary() == ["videos: 2 train; classes: 3"]
    assert labelled(tmp_path, "0", split="test").summary()[1] == "no training video"
    assert labelled(tmp_path, "90").summary()[1].endswith("90 (0, 1, 2, 3, 4, …)")


def test_paths_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    annotations(tmp_path, GOOD)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    read = read_csv("~/annotations.csv", "~", classes="~/classes.txt")
    assert read.table["label"].tolist() == [1, 0]
    assert read.videos == tmp_path
