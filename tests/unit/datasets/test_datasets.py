import gzip
import hashlib
import http.server
import struct
import threading
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from certlip import datasets
from certlip.base.errors import CertlipError, ConfigError, DataError, NoData
from certlip.base.files import read_npz, write_npz
from certlip.datasets import Dataset, mnist
from certlip.datasets._torchvision import download, torchvision_datasets

NOWHERE = "http://localhost:9"  # the discard port: refused at once


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(folder):
    """The address of a web server of the files in a folder."""
    with http.server.ThreadingHTTPServer(("localhost", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def small(**changes):
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (6, 2, 3, 4)) / np.float32(255)).astype(np.float32)
    labels = np.arange(6) % 3
    parts = {"train_images": images, "train_labels": labels, "test_images": images[:2], "test_labels": labels[:2]}
    return Dataset(**{**parts, "n_classes": 3, "details": {"name": "small"}, **changes})


def same(first, second):
    arrays = ("train_images", "train_labels", "test_images", "test_labels")
    return first.n_classes == second.n_classes and all(
        getattr(first, a).dtype == getattr(second, a).dtype and np.array_equal(getattr(first, a), getattr(second, a))
        for a in arrays
    )


def test_every_data_set_says_what_it_is():
    assert datasets.names() == ["arrays", "cifar10", "digits", "imagefolder", "mnist"]
    for name in datasets.names():
        assert datasets.info(name).title
        assert datasets.info(name).source


@pytest.mark.parametrize("levels", [255, 16, 7])
def test_saved_data_set_is_read_back_exactly(tmp_path, levels):
    rng = np.random.default_rng(1)
    images = rng.integers(0, levels + 1, (6, 2, 3, 4)).astype(np.float32) / np.float32(levels)
    dataset = small(train_images=images)
    dataset.save(tmp_path / "d.npz")
    again = Dataset.load(tmp_path / "d.npz")
    assert same(dataset, again)
    assert again.details == {"name": "small"}


def test_eight_bit_pictures_are_stored_as_bytes(tmp_path):
    small().save(tmp_path / "d.npz")
    _, arrays = read_npz(tmp_path / "d.npz")
    assert arrays["train_images"].dtype == np.uint8


def test_data_set_file_that_was_tampered_with_is_refused(tmp_path):
    small().save(tmp_path / "d.npz")
    header, arrays = read_npz(tmp_path / "d.npz")
    arrays["test_labels"][0] = 2
    write_npz(tmp_path / "tampered.npz", header, arrays)
    with pytest.raises(DataError, match="do not match their sha256"):
        Dataset.load(tmp_path / "tampered.npz")
    del arrays["test_labels"]
    write_npz(tmp_path / "lacking.npz", header, arrays)
    with pytest.raises(DataError, match="do not match their sha256"):
        Dataset.load(tmp_path / "lacking.npz")


def test_missing_or_truncated_data_set_file_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Dataset.load(tmp_path / "none.npz")
    small().save(tmp_path / "d.npz")
    content = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        Dataset.load(tmp_path / "half.npz")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_images": np.zeros((6, 12), np.float32)}, "train images must be"),
        ({"train_images": np.zeros((6, 2, 3, 4))}, "train images must be"),
        ({"train_images": np.zeros((5, 2, 3, 4), np.float32)}, "5 train images and 6 labels"),
        ({"test_images": np.full((2, 2, 3, 4), 1.5, np.float32)}, "outside"),
        ({"test_images": np.full((2, 2, 3, 4), np.nan, np.float32)}, "outside"),
        ({"test_images": np.zeros((2, 2, 3, 5), np.float32)}, r"test images \(2, 3, 5\)"),
        ({"test_labels": np.array([0, 3])}, "outside 0..2"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(changes, sentence):
    with pytest.raises(DataError, match=sentence):
        small(**changes)


def test_digits_need_no_folder_and_their_split_is_seeded_and_recorded(tmp_path):
    first, again = (datasets.fetch("digits", tmp_path / "none", seed=3) for _ in range(2))
    assert same(first, again)
    assert not same(first, datasets.fetch("digits", tmp_path / "none", seed=4))
    assert first.image_shape == (1, 8, 8)
    assert len(first.train_labels) + len(first.test_labels) == 1797
    assert first.train_images.max() == 1.0
    assert first.details == {"name": "digits", "test_fraction": 0.25, "seed": 3}
    assert len(datasets.fetch("digits", tmp_path / "none", test_fraction=0.5).test_labels) == 899
    assert not (tmp_path / "none").exists()


def test_digits_images_keep_their_labels(tmp_path):
    bundled = load_digits()
    label_of = {image.tobytes(): label for image, label in zip(bundled.images, bundled.target, strict=True)}
    dataset = datasets.fetch("digits", tmp_path)
    for image, label in zip(dataset.test_images, dataset.test_labels, strict=True):
        assert label_of[(image[0] * 16).astype(np.float64).tobytes()] == label


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("minst", {}, "unknown dataset 'minst'; did you mean 'mnist'?"),
        ("digits", {"sede": 3}, "data set 'digits' has no option 'sede'; did you mean 'seed'?"),
        ("digits", {"folder": "x"}, "data set 'digits' has no option 'folder'"),
        ("digits", {"test_fraction": 1.5}, "data set 'digits' cannot be split with test_fraction=1.5"),
        ("imagefolder", {}, "data set 'imagefolder' needs the option 'size'"),
        ("imagefolder", {"size": [8]}, "size must be [rows, columns]"),
    ],
)
def test_wrong_data_set_or_option_is_one_sentence(tmp_path, name, options, sentence):
    with pytest.raises(ConfigError) as error:
        datasets.fetch(name, tmp_path, **options)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def sentence_of_failed_download(name, folder, **options):
    with pytest.raises(CertlipError) as error:
        datasets.fetch(name, folder, **options)
    assert "\n" not in str(error.value)
    assert "'digits'" in str(error.value)
    assert "which needs no download" in str(error.value)
    return str(error.value)


def test_failed_mnist_download_names_the_addresses_the_folder_and_the_files(tmp_path):
    said = sentence_of_failed_download("mnist", tmp_path, mirrors=[NOWHERE + "/a/", NOWHERE + "/b"])
    assert f"{NOWHERE}/a/train-images-idx3-ubyte.gz or {NOWHERE}/b/train-images-idx3-ubyte.gz" in said
    assert str(tmp_path / "MNIST" / "raw") in said
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        assert f"{part}-ubyte.gz" in said


def test_failed_cifar10_download_names_the_address_the_folder_and_the_file(tmp_path):
    said = sentence_of_failed_download("cifar10", tmp_path, url=f"{NOWHERE}/other.tar.gz")
    assert f"from {NOWHERE}/other.tar.gz" in said
    assert f"put cifar-10-python.tar.gz into {tmp_path}" in said


def test_file_put_by_hand_with_a_wrong_checksum_is_never_used(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"not these"))
    said = sentence_of_failed_download("mnist", tmp_path, mirrors=[NOWHERE])
    assert "the train-images-idx3-ubyte.gz that lies there has a wrong checksum" in said


def test_mirror_that_serves_another_file_is_not_believed(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
    with served(tmp_path) as address:
        said = sentence_of_failed_download("mnist", tmp_path / "data", mirrors=[address])
    assert "corrupted" in said


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_mnist_of_a_mirror_is_downloaded_verified_and_read(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    web = tmp_path / "web"
    web.mkdir()
    pixels = {"train": rng.integers(0, 256, (5, 28, 28), np.uint8), "t10k": rng.integers(0, 256, (3, 28, 28), np.uint8)}
    labels = {"train": np.arange(5, dtype=np.uint8), "t10k": np.arange(7, 10, dtype=np.uint8)}
    for part in ("train", "t10k"):
        write_idx(web / f"{part}-images-idx3-ubyte.gz", pixels[part])
        write_idx(web / f"{part}-labels-idx1-ubyte.gz", labels[part])
    checksums = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in web.iterdir()]
    monkeypatch.setattr(torchvision_datasets().MNIST, "resources", checksums)
    with served(web) as address:
        dataset = datasets.fetch("mnist", tmp_path / "data", mirrors=[NOWHERE, address + "/"])
    by_hand = datasets.fetch("mnist", tmp_path / "data", mirrors=[NOWHERE])
    assert same(dataset, by_hand)
    assert np.array_equal(np.rint(dataset.train_images[:, 0] * 255), pixels["train"])
    assert np.array_equal(np.rint(dataset.test_images[:, 0] * 255), pixels["t10k"])
    assert dataset.train_labels.tolist() == [0, 1, 2, 3, 4]
    assert dataset.test_labels.tolist() == [7, 8, 9]


def test_download_is_skipped_for_a_file_with_the_right_checksum_only(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "f.bin").write_bytes(b"right")
    md5 = hashlib.md5(b"right").hexdigest()
    (tmp_path / "f.bin").write_bytes(b"wrong")
    with served(tmp_path / "web") as address:
        download("mnist", [f"{address}/f.bin"], tmp_path, "f.bin", md5, ["f.bin"])
    assert (tmp_path / "f.bin").read_bytes() == b"right"
    download("mnist", [NOWHERE], tmp_path, "f.bin", md5, ["f.bin"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b""),
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 5) + b"1234"),
        gzip.compress(struct.pack(">HBBI", 0, 13, 1, 4) + b"1234"),
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 400) + bytes(400))[:-20],
    ],
)
def test_damaged_idx_file_is_one_sentence(tmp_path, content):
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.gz is damaged"):
        mnist.read_idx(tmp_path / "x.gz")


def picture(path, colour, size=(5, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def pictures(tmp_path):
    """Two classes: red cats, blue dogs; the test dog is of another size."""
    for index in range(3):
        picture(tmp_path / "mine" / "train" / "cat" / f"{index}.png", (255, 0, 0))
        picture(tmp_path / "mine" / "train" / "dog" / f"{index}.png", (0, 0, 255))
    picture(tmp_path / "mine" / "test" / "cat" / "0.png", (255, 0, 0))
    picture(tmp_path / "mine" / "test" / "dog" / "0.jpg", (0, 0, 255), size=(40, 30))
    return tmp_path


def test_folder_of_pictures_is_a_data_set_of_the_size_asked_for(pictures):
    dataset = datasets.fetch("imagefolder", pictures, path="mine", size=[4, 5])
    assert dataset.train_images.shape == (6, 3, 4, 5)
    assert dataset.n_classes == 2
    assert dataset.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    red, blue = dataset.train_images[0], dataset.test_images[1]
    assert (red[0] == 1).all()
    assert (red[1:] == 0).all()
    assert blue[2].min() > 0.95
    assert blue[:2].max() < 0.05


def test_rows_of_a_picture_stay_rows(pictures):
    half = Image.new("RGB", (6, 4))
    half.paste((255, 255, 255), (0, 0, 6, 2))
    half.save(pictures / "mine" / "test" / "cat" / "0.png")
    image = datasets.fetch("imagefolder", pictures, path="mine", size=[4, 6]).test_images[0]
    assert (image[:, :2] == 1).all()
    assert (image[:, 2:] == 0).all()


def test_grey_pictures_have_one_channel(pictures):
    dataset = datasets.fetch("imagefolder", pictures / "mine", size=[2, 3], grey=True)
    assert dataset.train_images.shape == (6, 1, 2, 3)
    assert 0 < dataset.train_images.max() < 1


def test_pictures_in_the_wrong_places_are_one_sentence(pictures):
    with pytest.raises(DataError, match="is no folder of one folder of pictures a class"):
        datasets.fetch("imagefolder", pictures, size=[4, 5])
    (pictures / "mine" / "train" / "dog" / "9.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"9\.png is not a picture"):
        datasets.fetch("imagefolder", pictures, path="mine", size=[4, 5])
    (pictures / "mine" / "train" / "dog" / "9.png").unlink()
    picture(pictures / "mine" / "train" / "eel" / "0.png", (0, 0, 0))
    with pytest.raises(DataError, match="'eel' is in one of them only"):
        datasets.fetch("imagefolder", pictures, path="mine", size=[4, 5])


def put_arrays(folder, pixels, labels):
    np.save(folder / "x.npy", pixels)
    np.save(folder / "y.npy", labels)


def test_arrays_are_both_parts_in_the_order_of_axes_that_is_asked_for(tmp_path):
    pixels = np.random.default_rng(0).random((5, 3, 4, 2)).astype(np.float32)
    put_arrays(tmp_path, pixels, np.arange(5))
    found = datasets.fetch("arrays", tmp_path, images="x.npy", labels="y.npy", axes=[0, 3, 1, 2])
    np.testing.assert_array_equal(found.test_images, pixels.transpose(0, 3, 1, 2))
    assert found.train_images is found.test_images
    assert found.test_labels.tolist() == list(range(5))
    found.save(tmp_path / "d.npz")
    assert same(Dataset.load(tmp_path / "d.npz"), found)


@pytest.mark.parametrize(
    ("pixels", "labels", "options", "words"),
    [
        (np.zeros((2, 3), np.float32), np.zeros(2, int), {}, "shape"),
        (np.zeros((2, 1, 3, 3)), np.zeros(2, int), {}, "float32"),
        (np.zeros((2, 1, 3, 3), np.float32), np.zeros(2), {}, "whole numbers"),
        (np.zeros((2, 1, 3, 3), np.float32), np.zeros(3, int), {}, "labels"),
        (2 * np.ones((2, 1, 3, 3), np.float32), np.zeros(2, int), {}, "outside"),
        (np.zeros((2, 1, 3, 3), np.float32), np.zeros(2, int), {"axes": [0, 0, 1, 2]}, "axes"),
        (np.array([{}]), np.zeros(1, int), {}, "no .npy file of numbers"),
    ],
)
def test_arrays_that_are_no_images_are_refused_in_words(pixels, labels, options, words, tmp_path):
    put_arrays(tmp_path, pixels, labels)
    with pytest.raises(DataError, match=words):
        datasets.fetch("arrays", tmp_path, images="x.npy", labels="y.npy", **options)


def test_arrays_that_are_missing_are_waited_for(tmp_path):
    with pytest.raises(NoData, match="put it there by hand") as error:
        datasets.fetch("arrays", tmp_path, images="x.npy", labels="y.npy")
    assert error.value.files == (str(tmp_path / "x.npy"),)
