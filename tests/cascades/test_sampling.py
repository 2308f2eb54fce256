"""What the sampler must not do: compile again, or copy parameters at every call."""

import jax
import numpy as np
import pytest

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


def test_parameters_stay_where_they_were_placed(cascade):
    """With transfers to the devices forbidden but for what is put there explicitly, a call still finds its parameters
    there: as host arrays they would have to be copied."""
    stage = cascade.only("decoder")
    for leaf in jax.tree.leaves(stage.params):
        assert isinstance(leaf, jax.Array) and leaf.committed
        assert leaf.sharding.device_set == set(cascade.devices)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(stage.params)]
    text_to_image(cascade, ["a red circle"])
    assert pointers == [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(stage.params)]


def test_one_lot_after_another_gives_the_same_pictures(cascade, monkeypatch):
    from unclip_jax.cascades import stages

    prompts = ["a red circle", "a green ring", "a star", "a cross", "a blue ring"]
    whole = text_to_image(cascade, prompts, seed=1)
    monkeypatch.setattr(stages, "ROWS", {16: 2, 64: 2})
    lots = text_to_image(cascade, prompts, seed=1)
    assert np.max(np.abs(whole.astype(int) - lots.astype(int))) <= 1
    assert np.max(np.abs(whole[0].astype(int) - lots[1].astype(int))) > 10
