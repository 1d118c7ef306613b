"""Datasets in their own layouts, on small trees with their oddities."""

import csv
import json

import fsspec
import pytest

from pipeline.datasets import DATASETS, read_dataset
from pipeline.datasets.plain import read_plain
from pipeline.errors import InputError


def make_tree(root, *paths):
    """Files without content: a layout is read from names alone."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return str(root)


def shown(dataset):
    """(image, mask, label, category, kind) relative to the root, in order."""
    prefix = dataset.root.rstrip("/") + "/"
    return [
        (
            image.image_uri.removeprefix(prefix),
            image.mask_uri and image.mask_uri.removeprefix(prefix),
            image.label,
            image.category,
            image.kind,
        )
        for image in dataset.images
    ]


def test_mvtec_ad(tmp_path):
    """Each kind of defect has its folder, masks end in _mask; training images and normals' masks are not asked for."""
    root = make_tree(
        tmp_path,
        "bottle/train/good/000.png",
        "bottle/test/good/000.png",
        "bottle/test/broken_large/000.png",
        "bottle/ground_truth/broken_large/000_mask.png",
        "license.txt",
        "bottle/test/good/._000.png",
    )
    assert shown(read_dataset("mvtec-ad", root)) == [
        (
            "bottle/test/broken_large/000.png",
            "bottle/ground_truth/broken_large/000_mask.png",
            1,
            "bottle",
            "broken_large",
        ),
        ("bottle/test/good/000.png", None, 0, "bottle", "good"),
    ]


@pytest.mark.parametrize("name", ["mpdd", "dtd-synthetic"])
def test_sets_laid_out_as_mvtec_ad(tmp_path, name):
    """MPDD and DTD-Synthetic follow MVTec AD; masks without the suffix are found, too."""
    root = make_tree(tmp_path, "c/test/good/1.png", "c/test/bad/2.png", "c/ground_truth/bad/2.png")
    assert shown(read_dataset(name, root))[0] == ("c/test/bad/2.png", "c/ground_truth/bad/2.png", 1, "c", "bad")


def test_btad(tmp_path):
    """ok and ko; masks of another file type than their images."""
    root = make_tree(
        tmp_path, "01/test/ok/0000.bmp", "01/test/ko/0001.bmp", "01/ground_truth/ko/0001.png", "01/train/ok/0.bmp"
    )
    assert shown(read_dataset("btad", root)) == [
        ("01/test/ko/0001.bmp", "01/ground_truth/ko/0001.png", 1, "01", "ko"),
        ("01/test/ok/0000.bmp", None, 0, "01", "good"),
    ]


def write_visa(root, rows):
    path = root / "split_csv/1cls.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *rows])


def test_visa(tmp_path):
    """The table says what is tested; the training split is not."""
    images, masks = "candle/Data/Images", "candle/Data/Masks/Anomaly"
    make_tree(tmp_path, f"{images}/Normal/0.JPG", f"{images}/Normal/1.JPG", f"{images}/Anomaly/0.JPG", f"{masks}/0.png")
    write_visa(
        tmp_path,
        [
            ("candle", "train", "normal", f"{images}/Normal/0.JPG", ""),
            ("candle", "test", "normal", f"{images}/Normal/1.JPG", ""),
            ("candle", "test", "anomaly", f"{images}/Anomaly/0.JPG", f"{masks}/0.png"),
        ],
    )
    assert shown(read_dataset("visa", str(tmp_path))) == [
        (f"{images}/Normal/1.JPG", None, 0, "candle", "good"),
        (f"{images}/Anomaly/0.JPG", f"{masks}/0.png", 1, "candle", "anomaly"),
    ]


def test_visa_rearranged(tmp_path):
    """Its authors' script lays it out as MVTec AD."""
    root = make_tree(tmp_path, "pcb1/test/good/0.JPG", "pcb1/test/bad/1.JPG", "pcb1/ground_truth/bad/1.png")
    assert [row[2] for row in shown(read_dataset("visa", root))] == [1, 0]


@pytest.mark.parametrize("folder", ["head_ct", "head_ct/head_ct"])
def test_headct(tmp_path, folder):
    """A table of numbers and labels, with blanks after its commas; images lie a level deeper in some downloads."""
    make_tree(tmp_path, f"{folder}/000.png", f"{folder}/001.png")
    (tmp_path / "labels.csv").write_text("id, hemorrhage\n0, 1\n1, 0\n")
    assert shown(read_dataset("headct", str(tmp_path))) == [
        (f"{folder}/000.png", None, 1, "brain", "anomaly"),
        (f"{folder}/001.png", None, 0, "brain", "good"),
    ]


def test_headct_pictures_without_a_number_are_left_out_and_told(tmp_path):
    """No row can name them."""
    make_tree(tmp_path, "head_ct/000.png", "head_ct/cover.png", "head_ct/cover²1.png")
    (tmp_path / "labels.csv").write_text("id,hemorrhage\n0,1\n")
    dataset = read_dataset("headct", str(tmp_path))
    assert [row[0] for row in shown(dataset)] == ["head_ct/000.png"]
    told = "2 images have no number for a name and are left out; the first: head_ct/cover.png"
    assert told in dataset.remarks


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,yes", "labels.csv, row 2: expected hemorrhage 0 or 1, got 'yes'"),
        ("0,2", "labels.csv, row 2: expected hemorrhage 0 or 1, got '2'"),
        ("0,", "labels.csv, row 2: expected hemorrhage 0 or 1, got ''"),
        ("first,1", "labels.csv, row 2: expected a number as id, got 'first'"),
        ("7,1", "expected image 7, which row 2 of labels.csv names; found 000.png"),
    ],
)
def test_a_headct_table_of_another_form_is_refused(tmp_path, row, message):
    """By the table, the row and its value; no label is guessed."""
    make_tree(tmp_path, "head_ct/000.png")
    (tmp_path / "labels.csv").write_text(f"id,hemorrhage\n0,1\n{row}\n")
    with pytest.raises(InputError, match=message):
        read_dataset("headct", str(tmp_path))


@pytest.mark.parametrize("content", [b"id,hemorrhage\n\xff,1\n", b"id,hemorrhage\n" + b"0" * 2**18])
def test_a_table_that_is_no_csv_in_utf_8_is_refused(tmp_path, content):
    """Its bytes, or a field without end."""
    make_tree(tmp_path, "head_ct/000.png")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"labels.csv: expected a CSV table in UTF-8; "):
        read_dataset("headct", str(tmp_path))


@pytest.mark.parametrize("name", ["brainmri", "br35h"])
def test_yes_and_no(tmp_path, name):
    """Kaggle's brain scans: yes, no, endings in both cases, and images for prediction that nobody labelled."""
    root = make_tree(tmp_path, "yes/Y1.jpg", "no/1 no.jpeg", "no/N2.JPG", "pred/pred0.jpg", "brain_tumor/yes/Y1.jpg")
    assert [(row[0], row[2]) for row in shown(read_dataset(name, root))] == [
        ("no/1 no.jpeg", 0),
        ("no/N2.JPG", 0),
        ("yes/Y1.jpg", 1),
    ]


def test_isic(tmp_path):
    """Masks end in _Segmentation; no image is normal."""
    images, masks = "ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"
    root = make_tree(tmp_path, f"{images}/ISIC_0000003.jpg", f"{masks}/ISIC_0000003_Segmentation.png")
    assert shown(read_dataset("isic", root)) == [
        (f"{images}/ISIC_0000003.jpg", f"{masks}/ISIC_0000003_Segmentation.png", 1, "skin", "anomaly")
    ]


@pytest.mark.parametrize("name", ["cvc-colondb", "kvasir", "endo"])
def test_polyps(tmp_path, name):
    """images and masks of one name."""
    root = make_tree(tmp_path, "images/1.jpg", "masks/1.jpg")
    assert shown(read_dataset(name, root)) == [("images/1.jpg", "masks/1.jpg", 1, "colon", "anomaly")]


@pytest.mark.parametrize("below", ["", "TIF/", "PNG/"])
def test_clinicdb(tmp_path, below):
    """Original and Ground Truth, of TIFFs or of PNGs."""
    root = make_tree(tmp_path, f"{below}Original/1.tif", f"{below}Ground Truth/1.tif")
    assert shown(read_dataset("cvc-clinicdb", root))[0][:2] == (f"{below}Original/1.tif", f"{below}Ground Truth/1.tif")


def test_clinicdb_in_both_forms_is_read_once(tmp_path):
    """Where PNGs and TIFFs of the same pictures lie side by side, the PNGs are taken."""
    root = make_tree(
        tmp_path,
        *(f"{form}/{kind}/1.{form.lower()}" for form in ("PNG", "TIF") for kind in ("Original", "Ground Truth")),
    )
    assert [row[0] for row in shown(read_dataset("cvc-clinicdb", root))] == ["PNG/Original/1.png"]


def test_counts_other_than_table_s1_are_told(tmp_path):
    """A part of a dataset is read, and the difference is said in plain words."""
    (remark,) = read_dataset("kvasir", make_tree(tmp_path, "images/1.jpg", "masks/1.jpg")).remarks
    assert remark.startswith("Kvasir has 1 instead of 1,000 anomalous images (Table S1)")


def test_a_whole_dataset_has_no_remark(tmp_path):
    """200 images with masks are Endo."""
    root = make_tree(tmp_path, *(f"{folder}/{number}.jpg" for folder in ("images", "masks") for number in range(200)))
    assert read_dataset("endo", root).remarks == ()


def test_missing_and_needless_masks_are_told(tmp_path):
    """An anomalous image without a mask, and a normal one with one."""
    root = make_tree(
        tmp_path,
        "c/test/good/1.png",
        "c/ground_truth/good/1.png",
        "c/test/bad/2.png",
        "c/test/bad/3.png",
        "c/ground_truth/bad/3_mask.png",
    )
    remarks = read_dataset("mpdd", root).remarks
    assert any(f"1 anomalous images have no mask; the first: {root}/c/test/bad/2.png" in remark for remark in remarks)
    assert any("1 normal images have a mask; where it marks something, the image is left out" in one for one in remarks)


def test_masks_of_other_names_are_told(tmp_path):
    """Where not one mask belongs to an image."""
    root = make_tree(tmp_path, "images/1.jpg", "masks/2.jpg")
    assert any("1 anomalous images have no mask" in remark for remark in read_dataset("kvasir", root).remarks)


def test_sets_without_masks_lack_none(tmp_path):
    """Table S1 says which they are."""
    root = make_tree(tmp_path, "yes/1.jpg", "no/1.jpg")
    assert not any("mask" in remark for remark in read_dataset("br35h", root).remarks)


def test_a_plain_folder_lacks_masks_where_it_has_a_folder_of_them(tmp_path):
    """By either layout; without such a folder nobody meant to have any."""
    images = ("images/good/1.png", "images/dent/2.png")
    (remark,) = read_plain(make_tree(tmp_path / "a", *images, "masks/dent/3.png")).remarks
    assert "1 anomalous images have no mask" in remark
    assert read_plain(make_tree(tmp_path / "b", *images)).remarks == ()
    as_mvtec = make_tree(tmp_path / "c", "test/good/1.png", "test/dent/2.png", "ground_truth/dent/3_mask.png")
    assert "1 anomalous images have no mask" in read_plain(as_mvtec).remarks[0]


@pytest.mark.parametrize(
    ("name", "paths", "message"),
    [
        (
            "mvtec-ad",
            ["readme.txt", "bottle/img.png"],
            "expected a folder for each category.*found bottle/, readme.txt",
        ),
        ("mvtec-ad", ["c/test/bad/1.png"], "c/test: expected a folder 'good' of normal images; found bad/"),
        ("mvtec-ad", ["c/test/good/1.png"], "expected a folder 'ground_truth' of masks; found test/"),
        ("btad", ["01/test/ok/1.png"], "expected a folder 'ko'"),
        ("visa", ["candle/Data/x.JPG"], "expected split_csv/1cls.csv; found candle/"),
        ("headct", ["labels.csv"], "expected a folder 'head_ct'"),
        ("brainmri", ["yes/1.jpg"], "expected a folder 'no' of normal images; found yes/"),
        ("isic", ["x/1.jpg"], "expected a folder 'ISBI2016_ISIC_Part1_Test_Data' of images; found x/"),
        ("kvasir", ["images/1.jpg"], "expected a folder 'masks' of masks beside 'images'"),
        ("kvasir", ["images/readme.txt", "masks/1.jpg"], "images: expected images; found readme.txt"),
    ],
)
def test_another_layout_names_the_first_thing_missing(tmp_path, name, paths, message):
    """And what was found in its place."""
    with pytest.raises(InputError, match=message):
        read_dataset(name, make_tree(tmp_path, *paths))


def test_visa_table_of_another_form(tmp_path):
    """Columns, labels and files that are not there are named."""
    make_tree(tmp_path, "candle/1.JPG")
    write_visa(tmp_path, [("candle", "test", "odd", "candle/1.JPG", "")])
    with pytest.raises(InputError, match="expected label 'normal' or 'anomaly', got 'odd'"):
        read_dataset("visa", str(tmp_path))
    write_visa(tmp_path, [("candle", "test", "normal", "candle/2.JPG", "")])
    with pytest.raises(InputError, match=r"expected candle/2.JPG, which split_csv/1cls.csv names; found 1.JPG"):
        read_dataset("visa", str(tmp_path))
    (tmp_path / "split_csv/1cls.csv").write_text("object,split\ncandle,test\n")
    with pytest.raises(InputError, match="label, image, mask missing"):
        read_dataset("visa", str(tmp_path))


def test_unknown_and_empty_datasets_are_refused(tmp_path):
    """A name that is none, and a folder with nothing in it."""
    with pytest.raises(InputError, match="unknown dataset 'imagenet'; there are mvtec-ad, visa"):
        read_dataset("imagenet", str(tmp_path))
    with pytest.raises(InputError, match="found nothing there"):
        read_dataset("visa", str(tmp_path / "none"))
    with pytest.raises(InputError, match="found a folder without files"):
        read_dataset("visa", str(tmp_path))


def test_any_fsspec_root():
    """A dataset in a store is read as one on disk; its URIs are the store's."""
    fs = fsspec.filesystem("memory")
    for path in ("images/1.jpg", "masks/1.jpg"):
        fs.pipe_file(f"/sets/kvasir/{path}", b"x")
    (image,) = read_dataset("kvasir", "memory://sets/kvasir").images
    assert image.image_uri == "memory:///sets/kvasir/images/1.jpg"
    assert image.mask_uri == "memory:///sets/kvasir/masks/1.jpg"
    fs.rm("/sets", recursive=True)


def test_the_13_datasets_of_the_paper_are_there():
    """Table S1, row by row: classes, normal and anomalous images, pixel labels."""
    found = {one.title: (one.categories, one.normal, one.anomalous, one.has_masks) for one in DATASETS.values()}
    assert found == {
        "MVTec-AD": (15, 467, 1258, True),
        "VisA": (12, 962, 1200, True),
        "BTAD": (3, 451, 290, True),
        "MPDD": (6, 176, 282, True),
        "DTD-Synthetic": (12, 357, 947, True),
        "HeadCT": (1, 100, 100, False),
        "BrainMRI": (1, 98, 155, False),
        "Br35H": (1, 1500, 1500, False),
        "ISIC": (1, 0, 379, True),
        "CVC-ColonDB": (1, 0, 380, True),
        "CVC-ClinicDB": (1, 0, 612, True),
        "Kvasir": (1, 0, 1000, True),
        "Endo": (1, 0, 200, True),
    }


def test_plain_folder_of_one_category(tmp_path):
    """MVTec AD's layout without a category above it takes the folder's name."""
    root = make_tree(tmp_path / "nuts", "test/good/1.jpg", "test/colour/2.jpg", "ground_truth/colour/2.png")
    assert shown(read_plain(root))[0] == ("test/colour/2.jpg", "ground_truth/colour/2.png", 1, "nuts", "colour")


@pytest.mark.parametrize("category", ["", "gear/"])
def test_plain_images_and_masks(tmp_path, category):
    """images/KIND and masks/KIND, with or without categories, as the sample archive has them."""
    root = make_tree(
        tmp_path / "set", f"images/{category}good/1.jpg", f"images/{category}dent/2.jpg", f"masks/{category}dent/2.png"
    )
    dent, good = shown(read_plain(root))
    assert dent[1:] == (f"masks/{category}dent/2.png", 1, category.rstrip("/") or "set", "dent")
    assert good[1:3] == (None, 0)


def test_a_plain_folder_without_normal_images_shows_by_masks_that_they_are_none(tmp_path):
    """A folder of normal images by another name would pass for defects otherwise."""
    root = make_tree(tmp_path, "images/dent/1.png", "images/cut/2.png", "masks/dent/1.png", "masks/cut/2.png")
    assert [image.label for image in read_plain(root).images] == [1, 1]
    make_tree(tmp_path, "images/ok/3.png")
    with pytest.raises(InputError, match="'good' of normal images, or a mask for every image; found cut/, dent/, ok/"):
        read_plain(root)


@pytest.mark.parametrize(
    ("stray", "shown"),
    [("images/good/2024-01/2.png", "'images'"), ("images/2.png", "'images'"), ("test/good/old/2.png", "'test'")],
)
def test_images_that_the_layout_has_no_place_for_are_told(tmp_path, stray, shown):
    """Of them, nothing is known; they would be missed."""
    top = stray.partition("/")[0]
    make_tree(tmp_path, "masks/dent/1.png") if top == "images" else make_tree(tmp_path, "ground_truth/dent/1_mask.png")
    dataset = read_plain(make_tree(tmp_path, f"{top}/good/1.png", f"{top}/dent/1.png", stray))
    (remark,) = dataset.remarks
    assert f"1 images lie in {shown}" in remark and remark.endswith(f"the first: {stray}")
    assert len(dataset.images) == 2


def test_an_image_has_one_row_in_a_manifest(tmp_path):
    """Of two masks only one would be counted; the same row again says nothing new."""
    path = tmp_path / "set.csv"
    path.write_text("uri,label,mask_uri\na.png,1,m1.png\na.png,1,m1.png\n")
    assert len(read_plain(str(path)).images) == 1
    path.write_text("uri,label,mask_uri\na.png,1,m1.png\na.png,1,m2.png\n")
    with pytest.raises(InputError, match=r"expected one row for each image.*a.png has two.*m1.png, and .*m2.png"):
        read_plain(str(path))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_manifest_with_labels_and_masks(tmp_path, ending):
    """Relative URIs are the manifest's neighbours."""
    rows = [
        {"uri": "a.png", "label": "0", "mask_uri": "", "category": "x"},
        {"uri": "b.png", "label": "1", "mask_uri": "m/b.png", "category": "x"},
    ]
    path = tmp_path / f"set.{ending}"
    if ending == "csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row | {"label": int(row["label"])}) for row in rows]
    path.write_text("\n".join(lines))
    dataset = read_plain(str(path))
    assert [(image.image_uri, image.mask_uri, image.label, image.kind) for image in dataset.images] == [
        (str(tmp_path / "a.png"), None, 0, "good"),
        (str(tmp_path / "b.png"), str(tmp_path / "m/b.png"), 1, "anomaly"),
    ]


SECRET = "wJalrXUtnFEMI"


def write_manifest(folder, mask, uri="a.png"):
    path = folder / "set.jsonl"
    path.write_text(json.dumps({"uri": uri, "label": 1, "mask_uri": mask}))
    return path


@pytest.mark.parametrize(
    "mask",
    [
        f"s3://key:{SECRET}@bucket/m.png",
        f"simplecache::s3://key:{SECRET}@bucket/m.png",
        "zip://m.png::/etc/archive.zip",
        "ssh://host/m.png",
        7,
    ],
)
def test_a_mask_that_may_not_be_reached_is_refused_with_its_row(tmp_path, mask):
    """Credentials, chains and exotic protocols, as of images; the secret is not repeated."""
    with pytest.raises(InputError, match=r"set.jsonl#0: mask_uri.*: expected a ") as error:
        read_plain(str(write_manifest(tmp_path, mask)))
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("mask", [None, "", "  ", float("nan")])
def test_a_row_without_a_mask_has_none(tmp_path, mask):
    """However its writer says so."""
    (image,) = read_plain(str(write_manifest(tmp_path, mask))).images
    assert image.mask_uri is None


def test_signed_addresses_are_read_by_and_not_shown(tmp_path):
    """Of images and masks."""
    pytest.importorskip("aiohttp")
    uri, mask = (f"https://host/{name}.png?X-Amz-Signature={SECRET}" for name in "im")
    (image,) = read_plain(str(write_manifest(tmp_path, mask, uri))).images
    assert (image.image_uri, image.mask_uri) == ("https://host/i.png", "https://host/m.png")
    assert (image.image_path, image.mask_path) == (uri, mask)
    assert SECRET not in repr(image)


def test_detours_to_a_mask_in_a_store_are_resolved():
    """Stores know no `..`."""
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/sets/lists/m.csv", b"uri,label,mask_uri\n../i/b.png,1,../m/b.png\n")
    (image,) = read_plain("memory://sets/lists/m.csv").images
    assert (image.image_uri, image.mask_uri) == ("memory:///sets/i/b.png", "memory:///sets/m/b.png")
    assert image.mask_path.endswith("/sets/m/b.png")
    fs.rm("/sets", recursive=True)


def test_manifest_without_labels_is_refused(tmp_path):
    """A label that is none is named with its row."""
    path = tmp_path / "set.csv"
    path.write_text("uri,label\na.png,0\nb.png,2\n")
    with pytest.raises(InputError, match=r"set.csv#1: expected label 0 \(normal\) or 1 \(anomalous\), got '2'"):
        read_plain(str(path))
    path.write_text("uri\na.png\n")
    with pytest.raises(InputError, match="got None"):
        read_plain(str(path))
