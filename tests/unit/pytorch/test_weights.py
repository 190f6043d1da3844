import contextlib
import hashlib
import math
import os
import pickle

import pytest
import torch
from torch import nn

from certlip import zoo
from certlip.base.errors import ConfigError, DataError, NoData
from certlip.pytorch.weights import fetch_weights, in_order, load_into, load_weights, save_weights

STATE = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([0.5])}


def equal(first, second):
    return first.keys() == second.keys() and all(first[key].equal(second[key]) for key in first)


def test_saved_weights_are_read_back(tmp_path):
    save_weights(tmp_path / "w.pt", STATE)
    assert equal(load_weights(tmp_path / "w.pt"), STATE)


def test_plain_and_nested_state_dicts_of_others_are_read(tmp_path):
    torch.save(STATE, tmp_path / "plain.pth")
    torch.save({"state_dict": STATE, "epoch": 3}, tmp_path / "nested.pth")
    torch.save({"ema": STATE, "epoch": 3}, tmp_path / "named.pth")
    assert equal(load_weights(tmp_path / "plain.pth"), STATE)
    assert equal(load_weights(tmp_path / "nested.pth"), STATE)
    assert equal(load_weights(tmp_path / "named.pth", key="ema"), STATE)
    with pytest.raises(DataError, match="has no entry 'model'; it has 'ema', 'epoch'"):
        load_weights(tmp_path / "named.pth", key="model")
    with pytest.raises(DataError, match="not a state_dict of tensors"):
        load_weights(tmp_path / "named.pth")
    with pytest.raises(DataError, match="not a state_dict of tensors"):
        load_weights(tmp_path / "named.pth", key="epoch")


class Code:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_code_in_a_weights_file_is_never_run(tmp_path, write):
    write({"code": Code(tmp_path / "ran"), "weight": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match="code in a weights file is never run"):
        load_weights(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()
    with contextlib.suppress(Exception):
        torch.load(tmp_path / "w.pt", weights_only=False)
    assert (tmp_path / "ran").exists(), "the file holds no code: this test shows nothing"


def test_a_key_leads_through_mappings_and_lists(tmp_path):
    content = {"state_dict": [STATE, {"a.b": STATE}], "models": {"net": STATE}, "runs": {3: STATE}}
    torch.save(content, tmp_path / "w.pth")
    for key in ("state_dict.0", "state_dict.1.a.b", "models.net", "runs.3"):
        assert equal(load_weights(tmp_path / "w.pth", key=key), STATE)
    with pytest.raises(DataError, match=r"'state_dict', has no entry '7'; it has '0', '1'"):
        load_weights(tmp_path / "w.pth", key="state_dict.7")
    with pytest.raises(DataError, match="has no entry 'nothing'"):
        load_weights(tmp_path / "w.pth", key="models.net.nothing")


def test_missing_or_damaged_weights_are_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"none\.pt does not exist"):
        load_weights(tmp_path / "none.pt")
    torch.save(STATE, tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    for damaged in (b"", b"rubbish", content[:200], content[: len(content) // 2]):
        (tmp_path / "w.pt").write_bytes(damaged)
        with pytest.raises(DataError, match=r"w\.pt is damaged") as error:
            load_weights(tmp_path / "w.pt")
        assert "\n" not in str(error.value)
    torch.save(torch.zeros(3), tmp_path / "w.pt")
    with pytest.raises(DataError, match="holds a Tensor, not a state_dict"):
        load_weights(tmp_path / "w.pt")


def test_weights_of_a_file_address_with_the_right_sha256_are_fetched(tmp_path):
    torch.save(STATE, tmp_path / "theirs.pth")
    sha256 = hashlib.sha256((tmp_path / "theirs.pth").read_bytes()).hexdigest()
    fetch_weights((tmp_path / "theirs.pth").as_uri(), sha256.upper(), tmp_path / "new" / "w.pt")
    assert equal(load_weights(tmp_path / "new" / "w.pt"), STATE)


def test_weights_with_a_wrong_sha256_leave_nothing_behind(tmp_path):
    torch.save(STATE, tmp_path / "theirs.pth")
    with pytest.raises(DataError, match=f"not the expected {'0' * 64}"):
        fetch_weights((tmp_path / "theirs.pth").as_uri(), "0" * 64, tmp_path / "out" / "w.pt")
    assert not list((tmp_path / "out").iterdir())


def test_weights_put_there_by_hand_are_used_if_they_have_the_sha256_and_are_never_replaced(tmp_path):
    torch.save(STATE, tmp_path / "w.pt")
    sha256 = hashlib.sha256((tmp_path / "w.pt").read_bytes()).hexdigest()
    fetch_weights("https://localhost:9/w.pt", sha256, tmp_path / "w.pt")
    assert equal(load_weights(tmp_path / "w.pt"), STATE)
    (tmp_path / "w.pt").write_text("older")
    with pytest.raises(DataError, match=r"w\.pt has sha256 .* give the one that the checksum is of"):
        fetch_weights("https://localhost:9/w.pt", sha256, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_text() == "older"


@pytest.mark.parametrize("address", ["file:///certlip-no-such-file.pth", "https://localhost:9/w.pth", "https://["])
def test_weights_that_cannot_be_fetched_are_one_sentence(tmp_path, address):
    with pytest.raises((NoData, ConfigError)) as error:
        fetch_weights(address, "0" * 64, tmp_path / "w.pt")
    assert str(error.value).startswith(f"weights could not be fetched from {address} (")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "address", ["http://localhost/w.pth", "ftp://localhost/w.pth", "w.pth", "/etc/w.pth", "data:,x", "https:w"]
)
def test_addresses_other_than_https_and_file_are_refused(tmp_path, address):
    with pytest.raises(ConfigError, match="https:// or file:// addresses only"):
        fetch_weights(address, "0" * 64, tmp_path / "w.pt")


@pytest.mark.parametrize("sha256", ["", "abc", "z" * 64, "0" * 63])
def test_malformed_sha256_is_refused_before_anything_is_fetched(tmp_path, sha256):
    with pytest.raises(ConfigError, match="must be 64 hexadecimal digits"):
        fetch_weights("https://localhost:9/w.pth", sha256, tmp_path / "w.pt")


def test_weights_of_other_names_are_loaded_in_their_order():
    source, target = zoo.make("digits_cnn", 0), zoo.make("digits_cnn", 1)
    theirs = {f"theirs.{n}": value for n, value in enumerate(source.state_dict().values())}
    load_into(target, in_order(target, theirs))
    assert equal(source.state_dict(), target.state_dict())
    with pytest.raises(DataError, match=r"the weights do not fit Sequential: '0\.weight' is "):
        load_into(target, in_order(target, dict(reversed(theirs.items()))))
    with pytest.raises(DataError, match=r"it lacks '5\.bias'"):
        load_into(target, in_order(target, dict(list(theirs.items())[:5])))
    with pytest.raises(DataError, match=r"'theirs\.more' is not the network's"):
        load_into(target, in_order(target, {**theirs, "theirs.more": STATE["bias"]}))


def test_weights_of_the_same_architecture_are_loaded():
    source, target = zoo.make("digits_cnn", 0), zoo.make("digits_cnn", 1)
    load_into(target, source.state_dict())
    assert equal(source.state_dict(), target.state_dict())


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"weight": torch.zeros(1, 2)}, "it lacks 'bias'"),
        ({**STATE, "scale": torch.zeros(1)}, "'scale' is not the network's"),
        ({**STATE, "weight": torch.zeros(2, 1)}, r"'weight' is \(2, 1\) instead of \(1, 2\)"),
        ({f"layer{i}": torch.zeros(1) for i in range(4)}, "it lacks 'weight', it lacks 'bias', .* and 3 more"),
        ({**STATE, "bias": torch.tensor([math.nan])}, "the weights 'bias' hold NaN or infinite"),
        ({**STATE, "bias": torch.tensor([-math.inf])}, "the weights 'bias' hold NaN or infinite"),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence_and_change_nothing(state, sentence):
    module = nn.Linear(2, 1)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(DataError, match=sentence):
        load_into(module, state)
    assert equal(before, module.state_dict())


def test_complex_weights_of_a_real_network_are_refused_by_name():
    """Torch would keep their real parts."""
    with pytest.raises(DataError, match="'weight' is complex"):
        load_into(nn.Linear(2, 1), {**STATE, "weight": 1j * torch.ones(1, 2)})
