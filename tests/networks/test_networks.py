from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from ufc_monai.base.errors import InputError
from ufc_monai.losses.discrimination import memberships_of
from ufc_monai.networks.build import build_network
from ufc_monai.networks.decoder import GlobalLocalNetwork, MaskDiscriminator, RegionUNet, UNetDecoder
from ufc_monai.networks.encoder import (
    BootstrapNetwork,
    ContrastiveNetwork,
    MomentumNetwork,
    ProjectionHead,
    UNetEncoder,
)
from ufc_monai.networks.unet_vae import UNetFeatureVAE, UNetVAE
from ufc_monai.networks.vae import BetaVAE, FeatureVAE

WIDTHS = (4, 4, 8, 8, 16, 4)


@pytest.mark.parametrize("norm", ["batch", ("instance", {"affine": True})])
def test_encoder_is_the_encoder_of_basic_unet(norm: str | tuple[str, dict[str, bool]]) -> None:
    encoder = UNetEncoder(WIDTHS, norm)
    unet = BasicUNet(spatial_dims=2, out_channels=3, features=WIDTHS, norm=norm)
    missing, unexpected = unet.load_state_dict(encoder.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith(("upcat_", "final_conv")) for name in missing)

    x = torch.rand(2, 1, 32, 32)
    encoder.eval()
    unet.eval()
    maps = encoder.feature_maps(x)
    decoded = unet.upcat_4(maps[4], maps[3])
    for up, skip in ((unet.upcat_3, 2), (unet.upcat_2, 1), (unet.upcat_1, 0)):
        decoded = up(decoded, maps[skip])
    assert torch.equal(unet.final_conv(decoded), unet(x))


def test_encoder_has_40_tensors_with_instance_norm() -> None:
    assert len(UNetEncoder(WIDTHS).state_dict()) == 40


def test_encoder_averages_the_deepest_map() -> None:
    encoder = UNetEncoder(WIDTHS)
    x = torch.rand(2, 1, 48, 32)
    assert torch.allclose(encoder(x), encoder.feature_maps(x)[4].mean((2, 3)))


def test_embeddings_have_unit_length() -> None:
    network = ContrastiveNetwork(UNetEncoder(WIDTHS), ProjectionHead(16, hidden=8, out_features=5))
    assert torch.allclose(network(torch.rand(3, 1, 32, 32)).norm(dim=1), torch.ones(3))


def test_vae_samples_only_while_training() -> None:
    vae = BetaVAE(16, 3, (4, 8))
    mu, logvar = torch.zeros(500, 3), torch.zeros(500, 3)
    assert not torch.equal(vae.reparameterize(mu, logvar), mu)
    assert torch.equal(vae.eval().reparameterize(mu, logvar), mu)
    assert torch.equal(BetaVAE(16, 3, (4, 8), sampling=False).train().reparameterize(mu, logvar), mu)


def test_vae_samples_from_the_posterior() -> None:
    generator_state = torch.get_rng_state()
    torch.manual_seed(0)
    z = BetaVAE(16, 1, (4, 8)).reparameterize(torch.full((20000, 1), 2.0), torch.full((20000, 1), -1.0))
    torch.set_rng_state(generator_state)
    assert z.mean().item() == pytest.approx(2, abs=0.02)
    assert z.var().item() == pytest.approx(torch.exp(torch.tensor(-1.0)).item(), abs=0.02)


def test_feature_vae_returns_the_mean_and_shares_the_weights() -> None:
    vae, features = BetaVAE(16, 3, (4, 8)).eval(), FeatureVAE(16, 3, (4, 8)).eval()
    features.load_state_dict(vae.state_dict())
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(features(x), vae(x)[1])


def test_image_size_has_to_divide() -> None:
    with pytest.raises(InputError, match=r"multiple of 8.*got 36.*--image_size 32"):
        BetaVAE(36, 3, (4, 8, 8))


@pytest.mark.parametrize("norm", ["batch", ("instance", {"affine": True})])
def test_unet_vae_is_the_encoder_of_basic_unet_under_its_names(norm: str | tuple[str, dict[str, bool]]) -> None:
    vae = UNetVAE(32, 3, WIDTHS, norm).eval()
    unet = BasicUNet(spatial_dims=2, out_channels=3, features=WIDTHS, norm=norm)
    shared = {name: value for name, value in vae.state_dict().items() if name in unet.state_dict()}
    assert shared.keys() == UNetEncoder(WIDTHS, norm).state_dict().keys()
    encoder = UNetEncoder(WIDTHS, norm).eval()
    encoder.load_state_dict(shared)
    x = torch.rand(2, 1, 32, 32)
    reconstruction, mu, _, z = vae(x)
    assert torch.equal(vae.mu(encoder.feature_maps(x)[4].flatten(1)), mu)
    assert torch.equal(z, mu)
    assert reconstruction.shape == x.shape


def test_unet_vae_samples_only_while_training() -> None:
    x = torch.rand(2, 1, 32, 32)
    _, mu, _, z = UNetVAE(32, 3, WIDTHS)(x)
    assert not torch.equal(mu, z)
    _, mu, _, z = UNetVAE(32, 3, WIDTHS, sampling=False)(x)
    assert torch.equal(mu, z)


UNET: dict[str, Any] = {"features": [4, 4, 8, 8, 16, 4], "norm": ["instance", {"affine": True}]}
UNET_VAE = {"image_size": 32, "latent_size": 3, **UNET}
VAE = {"image_size": 16, "latent_size": 3, "channels": [4, 8]}


@pytest.mark.parametrize(
    ("named", "earlier", "kind"),
    [
        ({"name": "BasicUNet", "out_channels": 3, **UNET}, {"out_channels": 3, **UNET}, BasicUNet),
        ({"name": "UNetEncoder", **UNET}, UNET, UNetEncoder),
        ({"name": "BetaVAE", **VAE}, VAE, FeatureVAE),
        ({"name": "UNetVAE", **UNET_VAE}, {"encoder": "unet", **UNET_VAE}, UNetFeatureVAE),
    ],
)
def test_a_network_is_built_from_its_description(named: dict[str, Any], earlier: dict[str, Any], kind: type) -> None:
    """Descriptions of earlier versions have no name; the weights are the same, number by number."""
    built = []
    for architecture in (named, earlier):
        torch.manual_seed(0)
        built.append(build_network(architecture))
    assert type(built[0]) is type(built[1]) is kind
    weights, others = (network.state_dict() for network in built)
    assert all(torch.equal(weights[name], others[name]) for name in weights.keys() | others.keys())


@pytest.mark.parametrize("architecture", [{"name": "BetaVAE", **VAE}, {"name": "UNetVAE", **UNET_VAE}])
def test_what_is_published_has_the_weights_of_what_is_trained(architecture: dict[str, Any]) -> None:
    trained, published = build_network(architecture, {"sampling": True}).eval(), build_network(architecture).eval()
    published.load_state_dict(trained.state_dict())
    x = torch.rand(2, 1, architecture["image_size"], architecture["image_size"])
    assert torch.equal(published(x), trained(x)[1])
    assert torch.allclose(torch.jit.script(published)(x), published(x), atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ({"name": "os.system", "command": "true"}, "name must be one of BasicUNet, .*; got 'os.system'"),
        ({"encoder": "os.system"}, "name must be one of .*; got 'os.system'"),
        ({"name": ["BasicUNet"]}, "name must be one of"),
        ({"name": "UNetEncoder", "depth": 9}, "no UNetEncoder has these arguments: .*depth"),
        ({"name": "BetaVAE"}, "no BetaVAE has these arguments"),
    ],
)
def test_a_description_runs_nothing_else(architecture: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_network(architecture)


@pytest.mark.parametrize(("size", "way_out"), [(40, 32), (16, 32), (250, 256)])
def test_unet_vae_wants_a_multiple_of_16(size: int, way_out: int) -> None:
    with pytest.raises(InputError, match=rf"multiple of 16.*got {size}: choose --image_size {way_out}\."):
        UNetVAE(size, 3, WIDTHS)


def test_moco_asks_with_the_first_views_and_answers_with_the_second() -> None:
    query, key = nn.Linear(2, 3), nn.Linear(2, 3)
    x = torch.rand(6, 2)
    queries, keys = MomentumNetwork(query, key)(x)
    assert torch.equal(queries, query(x[:3]))
    assert torch.equal(keys, key(x[3:]))
    assert queries.requires_grad
    assert not keys.requires_grad


def test_byol_predicts_the_other_view() -> None:
    online, target, predictor = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 3)
    x = torch.rand(6, 2)
    predictions, targets = BootstrapNetwork(online, target, predictor)(x)
    assert torch.equal(predictions, predictor(online(x)))
    assert torch.equal(targets, target(torch.cat([x[3:], x[:3]])))
    assert not targets.requires_grad


def test_predictor_has_a_norm() -> None:
    assert [type(layer) for layer in ProjectionHead(4, 8, 2, norm=True)][1] is nn.BatchNorm1d


def test_encoder_and_decoder_are_basic_unet() -> None:
    features, norm = (4, 4, 8, 8, 16, 4), "batch"
    unet = BasicUNet(spatial_dims=2, out_channels=3, features=features, norm=norm).eval()
    encoder, decoder = UNetEncoder(features, norm).eval(), UNetDecoder(features, norm, 3).eval()
    own = unet.state_dict()
    assert own.keys() == encoder.state_dict().keys() | decoder.state_dict().keys()
    encoder.load_state_dict({name: own[name] for name in encoder.state_dict()})
    decoder.load_state_dict({name: own[name] for name in decoder.state_dict()})
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(decoder(encoder.feature_maps(x)), unet(x))


def test_the_first_region_as_a_segmentation() -> None:
    """Its softmax is the first region's share of a pixel, of the very weights of encoder and decoder."""
    features, norm, x = (4, 4, 8, 8, 16, 4), "batch", torch.rand(2, 1, 32, 32)
    encoder, decoder = UNetEncoder(features, norm).eval(), UNetDecoder(features, norm, 7).eval()
    network = RegionUNet(features, norm, 1, embedding_size=4, regions=3).eval()
    network.load_state_dict(encoder.state_dict() | decoder.state_dict())
    share = memberships_of(decoder(encoder.feature_maps(x))[:, 4:])[:, 0]
    torch.testing.assert_close(network(x).softmax(dim=1), torch.stack([1 - share, share], dim=1))


def test_a_discriminator_takes_masks_of_any_size() -> None:
    judge = MaskDiscriminator()
    assert [m.out_channels for m in judge if isinstance(m, nn.Conv2d)] == [16, 16, 32, 32, 32, 32, 1]
    assert judge(torch.rand(3, 1, 32, 32)).shape == (3,)
    assert judge(torch.rand(1, 1, 100, 60)).shape == (1,)


def test_no_gradient_of_the_local_loss_reaches_the_encoder() -> None:
    features = (4, 4, 8, 8, 16, 4)
    encoder, head = UNetEncoder(features, "batch"), ProjectionHead(16, 8, 2)
    network = GlobalLocalNetwork(encoder, head, UNetDecoder(features, "batch", 5))
    x = torch.rand(2, 1, 32, 32)
    whole, pixels = network.eval()(x)
    assert pixels.shape == (2, 5, 32, 32)
    assert torch.equal(whole, ContrastiveNetwork(encoder, head)(x))
    pixels.sum().backward()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in network.decoder.parameters())
    whole.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_a_joint_network_teaches_the_encoder_by_pixels() -> None:
    encoder = UNetEncoder(WIDTHS, "batch")
    network = GlobalLocalNetwork(encoder, ProjectionHead(16, 8, 2), UNetDecoder(WIDTHS, "batch", 5), joint=True)
    network(torch.rand(2, 1, 32, 32))[1].sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize(("kind", "widths"), [(BetaVAE, (4, 8)), (UNetVAE, WIDTHS)])
def test_standardised_colours_come_back_without_bounds(
    kind: type[BetaVAE] | type[UNetVAE], widths: tuple[int, ...]
) -> None:
    vae = kind(32, 3, widths, in_channels=3, use_sigmoid=False).eval()
    x = 100 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    reconstruction = vae(x)[0]
    assert reconstruction.shape == x.shape
    assert reconstruction.min() < 0
    vae.use_sigmoid = True
    assert torch.allclose(vae(x)[0], reconstruction.sigmoid())
