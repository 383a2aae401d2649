from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.tiny import TINY, TINY_RGB, tiny_bundle
from visarl.aim import aim
from visarl.bundle import load_bundle, load_part, save_bundle, save_part
from visarl.contract import get_contract
from visarl.errors import BundleError, ContractError
from visarl.normalisation import CLIP, Normalisation
from visarl.robot.kinematics import tool_position


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", metrics={"success": 17}, provenance={"seed": 3})


@pytest.fixture
def folder(original, tmp_path):
    """A copy to spoil."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in original.folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def edit(folder: Path, **changes) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_saved_is_loaded(original, folder):
    bundle = load_bundle(folder)
    assert (bundle.config, bundle.task, bundle.id) == (TINY, "pick_red_block", original.id)
    assert (bundle.metrics, bundle.provenance) == ({"success": 17}, {"seed": 3})
    assert bundle.contract.name == "jaco2"
    for field in dataclasses.fields(Normalisation):
        expected = getattr(original.normalisation, field.name)
        np.testing.assert_array_equal(getattr(bundle.normalisation, field.name), expected)
    assert set(bundle.weights("policy")) == set(original.weights("policy"))
    assert (folder / "README.md").read_text().startswith("# ")


def test_the_id_is_that_of_the_function(original, tmp_path):
    assert tiny_bundle(tmp_path / "same", metrics={"success": 1}, card="# other").id == original.id
    assert tiny_bundle(tmp_path / "other", seed=1).id != original.id


def test_another_contract_version_is_refused(folder):
    edit(folder, contract=0)
    with pytest.raises(BundleError, match="contract version 0.*this is version 1.*train it again"):
        load_bundle(folder)


def test_changed_preprocessing_is_refused(folder, monkeypatch):
    monkeypatch.setattr("visarl.preprocess._VERSION", 2)
    with pytest.raises(BundleError, match="prepared as"):
        load_bundle(folder)


def test_an_edited_crop_is_refused(folder):
    config = json.loads((folder / "bundle.json").read_text())["config"]
    config["preprocess"]["size"] = 100
    edit(folder, config=config)
    with pytest.raises(BundleError, match="prepared as"):
        load_bundle(folder)


def test_another_arm_is_refused(folder):
    with pytest.raises(BundleError, match="made for the arm 'jaco2', asked to drive 'gen3'"):
        load_bundle(folder, arm="gen3")
    assert load_bundle(folder, arm="jaco2")
    edit(folder, arm="gen3")
    with pytest.raises(BundleError, match="gen3"):
        load_bundle(folder)


@pytest.mark.parametrize("part", ["saliency", "encoder", "readout", "policy"])
def test_exchanged_or_missing_weights_are_refused(folder, part):
    path = folder / f"{part}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=f"{part}.safetensors is damaged or was exchanged"):
        load_bundle(folder)
    path.unlink()
    with pytest.raises(BundleError, match=f"{part}.safetensors is missing"):
        load_bundle(folder)


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_truncated_description_is_refused(folder, keep):
    path = folder / "bundle.json"
    path.write_text(path.read_text()[:keep])
    with pytest.raises(BundleError, match="damaged"):
        load_bundle(folder)


@pytest.mark.parametrize("key", ["config", "files", "normalisation", "task", "preprocess", "arm", "metrics"])
def test_an_incomplete_description_is_refused(folder, key):
    content = json.loads((folder / "bundle.json").read_text())
    del content[key]
    (folder / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=key):
        load_bundle(folder)


@pytest.mark.parametrize("change", ["action_scale", "task"])
def test_a_figure_that_was_changed_is_refused(folder, change):
    content = json.loads((folder / "bundle.json").read_text())
    if change == "task":
        content["task"] = "pick_apple"
    else:
        content["normalisation"]["action_scale"][0] *= 10
    edit(folder, **content)
    with pytest.raises(BundleError, match="changed since it was written"):
        load_bundle(folder)


def test_an_interrupt_between_the_two_moves_leaves_the_old_bundle(tmp_path, monkeypatch):
    first, replace, met = tiny_bundle(tmp_path / "b"), os.replace, []

    def interrupted(source, target):
        if Path(target) == tmp_path / "b" and not met:  # the new bundle would now take the old one's place
            met.append(source)
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny_bundle(tmp_path / "b", seed=1)
    assert met and load_bundle(tmp_path / "b").id == first.id
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_misspelt_setting_is_refused_with_a_suggestion(folder):
    config = json.loads((folder / "bundle.json").read_text())["config"]
    config["policy"]["hiden"] = 16
    edit(folder, config=config)
    with pytest.raises(BundleError, match="did you mean 'hidden'"):
        load_bundle(folder)


def test_another_length_of_proprioception_is_refused(folder):
    normalisation = json.loads((folder / "bundle.json").read_text())["normalisation"]
    normalisation["proprioception_mean"] = normalisation["proprioception_std"] = [1.0] * 14
    edit(folder, normalisation=normalisation)
    with pytest.raises(BundleError, match="14 numbers.*has 15"):
        load_bundle(folder)


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(BundleError, match="has no bundle.json"):
        load_bundle(tmp_path)


def test_saving_replaces_a_bundle_but_nothing_else(original, tmp_path):
    first = tiny_bundle(tmp_path / "b")
    second = tiny_bundle(tmp_path / "b", seed=1)
    assert first.id != second.id == load_bundle(tmp_path / "b").id
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("x")
    with pytest.raises(BundleError, match="not replaced"):
        tiny_bundle(precious)
    assert (precious / "thesis.tex").read_text() == "x"


def test_a_failed_save_leaves_the_old_bundle(tmp_path):
    bundle = tiny_bundle(tmp_path / "b")
    bad = dataclasses.replace(bundle.normalisation, action_scale=np.ones(6))
    with pytest.raises(BundleError, match="6 numbers"):
        tiny_bundle(tmp_path / "b", seed=1, normalisation=bad)
    with pytest.raises(TypeError, match="JSON"):
        tiny_bundle(tmp_path / "b", seed=1, metrics={"bad": object()})
    assert load_bundle(tmp_path / "b").id == bundle.id
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_parts_must_be_complete_and_saliency_only_where_it_is_used(tmp_path):
    rgb = tiny_bundle(tmp_path / "rgb", TINY_RGB)
    assert not (rgb.folder / "saliency.safetensors").exists()
    with pytest.raises(BundleError, match="no such file"):
        rgb.weights("saliency")
    parts = {name: rgb.weights(name) for name in ("encoder", "readout", "policy")}
    with pytest.raises(BundleError, match="saliency"):
        save_bundle(tmp_path / "x", config=TINY, task="t", parts=parts, normalisation=rgb.normalisation)


def test_half_precision_halves_the_matrices_only(original, tmp_path):
    half = tiny_bundle(tmp_path / "half", half=True)
    size = sum(f.stat().st_size for f in original.folder.glob("*.safetensors"))
    assert sum(f.stat().st_size for f in half.folder.glob("*.safetensors")) < 0.65 * size
    for name, tensor in original.weights("saliency").items():
        loaded = half.weights("saliency")[name]
        assert loaded.dtype == tensor.dtype
        tolerance = 1e-3 if tensor.ndim >= 2 else 0
        torch.testing.assert_close(loaded, tensor, atol=1e-4 if tensor.ndim >= 2 else 0, rtol=tolerance)


def test_a_part_travels_alone_with_its_description(tmp_path):
    path = tmp_path / "new" / "part.safetensors"
    shared = torch.arange(6.0)
    save_part(path, {"a": shared.reshape(2, 3).T, "b": shared, "n": torch.tensor(3)}, {"seed": 1, "roles": ["object"]})
    weights, description = load_part(path)
    assert description == {"seed": 1, "roles": ["object"]}
    assert torch.equal(weights["a"], shared.reshape(2, 3).T) and weights["n"].item() == 3
    assert [p.name for p in path.parent.iterdir()] == ["part.safetensors"]


def test_a_damaged_or_foreign_part_is_refused(tmp_path):
    path = tmp_path / "part.safetensors"
    with pytest.raises(BundleError, match="no such file"):
        load_part(path)
    with pytest.raises(BundleError, match="is a folder; expected the file of one part in it"):
        load_part(tmp_path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(BundleError, match="damaged"):
        load_part(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(BundleError, match="not written by ViSaRL"):
        load_part(path)


def test_normalisation_goes_there_and_back_and_cuts_outliers():
    arm = get_contract("jaco2")
    size = len(arm.proprioception)
    joints = np.zeros(size)
    tool = tool_position(arm, joints)
    n = Normalisation(
        proprioception_mean=np.ones(size),
        proprioception_std=np.full(size, 2.0),
        embedding_mean=[0.0, 3.0],
        embedding_std=[1.0, 0.1],
        tool_mean=tool - 0.02,
        tool_std=[0.01] * 3,
        action_scale=[0.02, 1.0],
    )
    expected = [1.0, 1.0, *[-0.5] * size, *[2.0] * 3]
    assert n.state_dim == len(expected)
    np.testing.assert_allclose(n.state([1.0, 3.1], joints, arm), expected, rtol=1e-5)
    many = n.state(np.full((4, 2), 99.0), np.zeros((4, size)), arm)
    np.testing.assert_allclose(many, np.tile([CLIP, CLIP, *expected[2:]], (4, 1)), rtol=1e-5)
    np.testing.assert_allclose(n.action([[0.5, -3.0]]), [[0.01, -1.0]])
    for bad, words in (({"embedding_std": [1.0, 0.0]}, "above 0"), ({"embedding_mean": [np.nan, 0]}, "finite")):
        with pytest.raises(ContractError, match=words):
            dataclasses.replace(n, **bad)
    with pytest.raises(ContractError, match="2 means but 1"):
        dataclasses.replace(n, embedding_std=[1.0])


def test_with_a_target_the_policy_aims_from_the_joints_and_does_not_see_the_effectors_peak():
    arm = get_contract("jaco2")
    size, camera = len(arm.proprioception), np.eye(3, 4).ravel()
    n = Normalisation(
        proprioception_mean=np.zeros(size),
        proprioception_std=np.ones(size),
        embedding_mean=np.zeros(7),
        embedding_std=np.ones(7),
        tool_mean=np.zeros(3),
        tool_std=np.ones(3),
        action_scale=arm.action.high,
        camera=camera,
        targets=[3],
    )
    joints = np.full(size, 0.3)
    seen = n.state([9.0, 9.0, 9.0, 0.2, -0.1, 1.0, 0.7], joints, arm)
    assert len(seen) == n.state_dim
    np.testing.assert_allclose(seen[:4], [0.2, -0.1, 1.0, 0.7], rtol=1e-6)
    expected = aim(camera, tool_position(arm, joints), [0.2, -0.1, 1.0])
    np.testing.assert_allclose(seen[-6:], expected.clip(-CLIP, CLIP), rtol=1e-5)
    elsewhere = n.state([-9.0, 0.0, 0.1, 0.2, -0.1, 1.0, 0.7], joints, arm)
    np.testing.assert_array_equal(seen, elsewhere)
    with pytest.raises(ContractError, match="camera"):
        dataclasses.replace(n, camera=np.zeros(5))


def test_of_a_keypoint_the_policy_is_told_whether_it_is_trusted_not_how_clearly_it_is_seen():
    arm = get_contract("jaco2")
    size = len(arm.proprioception)
    n = Normalisation(
        proprioception_mean=np.zeros(size),
        proprioception_std=np.ones(size),
        embedding_mean=np.zeros(6),
        embedding_std=np.ones(6),
        tool_mean=np.zeros(6),
        tool_std=np.ones(6),
        action_scale=arm.action.high,
        camera=np.array([[0.0, 4.0, 0.0, 0.0], [4.0, 0.0, 0.0, -1.8], [0.0, 0.0, -1.0, 1.0]]).ravel(),
        targets=[3],
        planes=[0.02],
        heights=[0.03],
    )

    def told(confidence: float) -> np.ndarray:
        return n.state([0.1, 0.2, 0.9, 0.2, -0.1, confidence], np.full(size, 0.3), arm)

    np.testing.assert_array_equal(told(0.5), told(0.95))
    assert [told(confidence)[0] for confidence in (0.95, 0.25, 0.1)] == pytest.approx([1.0, 0.5, 0.0])
    np.testing.assert_array_equal(told(0.1)[1:], told(0.95)[1:])


def test_a_launcher_reads_a_bundle_without_torch(original):
    code = (
        "import sys; from visarl.bundle import load_bundle; "
        f"print(load_bundle({str(original.folder)!r}).id); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == original.id
