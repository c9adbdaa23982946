"""The judges that GenEval was published with: where they are, and how to know them."""

from __future__ import annotations

from dataclasses import dataclass

from star_bench.assets.asset import Download


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A file that OpenMMLab published, known by its sha256 or the part of it that stands in the file's name."""

    file: str
    sha256: str
    url: str


_ZOO = "https://download.openmmlab.com/mmdetection"
_OLD = "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco"
_NEW = "mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco"

OFFICIAL_CHECKPOINT = PublishedCheckpoint(
    file=f"{_OLD}_20220504_001756-743b7d99.pth",
    sha256="743b7d99015f1224c6d57fd4b14d04b15cc8ec72ae7ee7831e7c71d8873b7a54",
    url=f"{_ZOO}/v2.0/mask2former/{_OLD}/{_OLD}_20220504_001756-743b7d99.pth",
)
"""What GenEval's own download script fetches (mmdet 2.x)."""
NEWER_CHECKPOINT = PublishedCheckpoint(
    file=f"{_NEW}_20220504_001756-c9d0c4f2.pth",
    sha256="c9d0c4f2",
    url=f"{_ZOO}/v3.0/mask2former/{_NEW}/{_NEW}_20220504_001756-c9d0c4f2.pth",
)
"""The same training under mmdet 3.x names."""
PUBLISHED = (OFFICIAL_CHECKPOINT, NEWER_CHECKPOINT)

COLOR_MODEL = "ViT-L-14-quickgelu"
"""open_clip's name for OpenAI's ViT-L/14 as it was trained."""
COLOR_REPOSITORY = "timm/vit_large_patch14_clip_224.openai"
COLOR_FILE = "open_clip_model.safetensors"
"""OpenAI's weights as safetensors, in the repository that open_clip itself names for them. OpenAI's own file is a
TorchScript archive, which can't be read without running it."""
COLOR_COMMIT = "18d0535469bb561bf468d76c1d73aa35156c922b"
COLOR_SHA256 = "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e"
"""Of that repository and file, as several public projects that judge with it record them."""

DETECTOR_DOWNLOAD = Download(
    address=OFFICIAL_CHECKPOINT.url, file=OFFICIAL_CHECKPOINT.file, sha256=OFFICIAL_CHECKPOINT.sha256
)
COLOR_DOWNLOAD = Download(hub=COLOR_REPOSITORY, revision=COLOR_COMMIT, file=COLOR_FILE, sha256=COLOR_SHA256)
DOWNLOADS = "geneval"
"""The folder of the cache that both are put into before they are installed."""
