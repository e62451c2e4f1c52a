"""A training whose cluster is gone goes on in another one, and its model does not show it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from leased import leased
from stackyard.evacuation import arriving, versions
from stackyard.evacuation.blobs import Coder
from stackyard.evacuation.saving import opened
from stackyard.store import trainings
from stackyard.training.practice import Practice, practise

STEPS = 400


@pytest.mark.parametrize("seed", [1, 2])
def test_saved_anywhere_lost_and_restored_to_another_cluster_it_ends_with_the_same_digest(tmp_path: Path, seed: int):
    whole, fate = practise(Practice(str(tmp_path / "whole"), STEPS, every=7)), random.Random(seed)
    (tmp_path / "one").mkdir()
    here = leased(tmp_path / "one")
    for number in range(3):
        # It trains, is saved at some moment while it does, and is killed; the workspace is gone with its cluster.
        module = [sys.executable, "-m", "stackyard.training.practice", str(here.workspace / "t"), "--here"]
        command = [*module, "--steps", str(STEPS), "--every", "7", "--pace", "0.003"]
        beside = here.base / "trainings"
        process = subprocess.Popen(command, env={**os.environ, trainings.VARIABLE: str(beside)})
        reached = (number + 1) * 60 + fate.randrange(30)
        while not any(each.step >= reached for each in trainings.said(beside)):
            assert process.poll() is None
        here.save()
        process.kill()
        process.wait()
        shutil.rmtree(here.workspace)

        (tmp_path / f"after-{number}").mkdir()
        fresh = leased(tmp_path / f"after-{number}").with_(cluster=f"c{number}")
        store = opened(here.settings)
        found = versions.newest(store, here.settings.cluster, here.settings.trusted_keys)
        assert found is not None
        brought = arriving.bring(here.settings, store, Coder.of(None), found, fresh.settings, lambda _: None)
        assert not brought.damaged
        here = fresh
    assert practise(Practice(str(here.workspace / "t"), STEPS, every=7)) == whole
