import pytest
import torch

from star_bench.generation.noise import latent_noise, noise_seed


def test_the_scheme_never_changes() -> None:
    """Changing these numbers changes every image that anyone has stored."""
    assert noise_seed(0, "00000", 0) == 834251091715827308
    assert latent_noise(0, "00000", 0, (4, 2, 2)).flatten()[:3].tolist() == pytest.approx(
        [-0.399868, -0.246719, 0.123725], abs=1e-6
    )


def test_every_part_counts_and_none_runs_into_the_next() -> None:
    seeds = {noise_seed(*key) for key in [(1, "1", 1), (11, "1", 1), (1, "11", 1), (1, "1", 11), (1, '1",1', 1)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_noise_is_standard_normal_float32_and_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    noise = latent_noise(3, "x", 0, (16, 64, 64))
    assert noise.dtype is torch.float32 and noise.device.type == "cpu"
    assert noise.mean().abs() < 0.02 and (noise.std() - 1).abs() < 0.02
    assert torch.equal(state, torch.random.get_rng_state())
