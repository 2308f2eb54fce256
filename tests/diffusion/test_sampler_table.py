import jax
import jax.numpy as jnp
import pytest

from unclip_jax.diffusion.samplers import SAMPLERS, SamplerOptions
from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.samplers.ddpm import Ancestral
from unclip_jax.diffusion.samplers.dpm_solver import DPMSolver


def test_samplers_are_created_from_options(schedule):
    options = SamplerOptions(eta=0.25, variance="fixed_large")
    ancestral, ddim, dpm = (SAMPLERS.choose(name)(schedule, options) for name in ("ddpm", "ddim", "dpm"))
    assert isinstance(ancestral, Ancestral) and ancestral.variance == "fixed_large"
    assert isinstance(ddim, DDIM) and ddim.eta == 0.25
    assert isinstance(dpm, DPMSolver)
    assert all(sampler.schedule is schedule for sampler in (ancestral, ddim, dpm))


def test_sampler_options_trace_eta_but_not_variance():
    traces = []

    @jax.jit
    def eta_of(options):
        traces.append(options.variance)
        return options.eta + 0.0

    for eta, variance in ((0.25, "fixed_small"), (0.5, "fixed_small"), (jnp.float32(0.5), "fixed_large")):
        assert eta_of(SamplerOptions(eta=eta, variance=variance)) == eta
    assert traces == ["fixed_small", "fixed_large"]


def test_unknown_sampler_is_rejected_with_available_names():
    with pytest.raises(ValueError, match="^Unknown sampler 'euler'. Available: ddpm, ddim, dpm.$"):
        SAMPLERS.choose("euler")
