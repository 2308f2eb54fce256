"""What the sampler must not do: compile again, or copy parameters at every call."""

import dataclasses

import jax
import numpy as np
import pytest

from unclip_jax.cascades import sampling
from unclip_jax.cascades.text_to_image import text_to_image


@pytest.fixture
def compilations():
    """Counts programs that are compiled, or read from the persistent cache."""
    counted = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            counted.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return counted


def test_another_scale_seed_text_step_count_or_number_of_prompts_compiles_nothing(cascade, compilations):
    text_to_image(cascade, ["a red circle", "a green ring", "a star"], seed=0)
    before = len(compilations)
    for prompts, settings in (
        (["a blue ring", "a red star", "a cross"], {}),
        (["a red circle", "a green ring", "a star"], {"seed": 5, "first_image": 7}),
        (["a red circle", "a green ring", "a star"], {"prior_scale": 3.0, "decoder_scale": 7.5}),
        (["a red circle", "a green ring", "a star"], {"steps": {"prior": 17, "decoder": 2, "upsampler_8_to_16": 9}}),
        (["a red circle", "a green ring", "a star", "a cross"], {}),
    ):
        text_to_image(cascade, prompts, **settings)
        assert len(compilations) == before, settings
    text_to_image(cascade, ["a red circle", "a green ring", "a star"], decoder_scale=1.0)
    assert len(compilations) > before  # unguided is another program: the count does count


def test_no_segment_copies_parameters_or_anything_else_to_the_devices(cascade, monkeypatch):
    arguments = {"prompts": ["a red circle"], "seed": 1}
    text_to_image(cascade, **arguments)  # compiles: constants may be copied then
    compiled, calls = sampling._compiled, []

    def guarded(program):
        begin, segment = compiled(program)

        def call(*args):
            calls.append(program)
            with jax.transfer_guard("disallow"):
                return segment(*args)

        return begin, call

    monkeypatch.setattr(sampling, "_compiled", guarded)
    text_to_image(cascade, **arguments)
    assert len(calls) == 3  # a segment for each stage
    stage = cascade.only("decoder")
    on_host = dataclasses.replace(stage, params=jax.device_get(stage.params))
    moved = dataclasses.replace(cascade, stages={**cascade.stages, stage.name: on_host})
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        text_to_image(moved, **arguments)


def test_one_lot_after_another_gives_the_same_pictures(cascade, monkeypatch):
    from unclip_jax.cascades import stages

    prompts = ["a red circle", "a green ring", "a star", "a cross", "a blue ring"]
    whole = text_to_image(cascade, prompts, seed=1)
    monkeypatch.setattr(stages, "ROWS", {16: 2, 64: 2})
    lots = text_to_image(cascade, prompts, seed=1)
    assert np.max(np.abs(whole.astype(int) - lots.astype(int))) <= 1
    assert np.max(np.abs(whole[0].astype(int) - lots[1].astype(int))) > 10
