"""The published data sets: sources, licences, and the digests and counts to expect.

Digests are SHA-256 of the files at the pinned revisions. A branch is the fallback of each pinned
revision; its files must have the same digests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Files:
    """Files of a GitHub repository.

    Attributes:
        repository: `owner/name`.
        revisions: in the order to try, the pinned one first.
        digests: SHA-256 by path; None if unknown.
    """

    repository: str
    revisions: tuple[str, ...]
    digests: Mapping[str, str | None]
    host: str = "https://raw.githubusercontent.com"

    def urls(self, path: str) -> list[str]:
        """URLs of a file, in the order to try."""
        return [f"{self.host}/{self.repository}/{revision}/{path}" for revision in self.revisions]


@dataclass(frozen=True)
class Pool:
    """A list on the Hugging Face hub: image paths by a mirror's ids, one JSON object per line."""

    repository: str
    path: str
    revision: str = "main"


@dataclass(frozen=True)
class Mirror:
    """A Hugging Face data set with images as bytes in Parquet files.

    Attributes:
        repository: `owner/name`.
        revision: commit, or `main` if none is pinned.
        id_column: image ids, or ids that `pool` maps to image ids.
        image_column: bytes, or a struct with `bytes`.
        pool: maps the mirror's ids to image ids; None if they are image ids.
    """

    repository: str
    revision: str
    id_column: str
    image_column: str
    pool: Pool | None = None


@dataclass(frozen=True)
class Archive:
    """A zip file of images, or of annotation files to extract.

    Attributes:
        files: path in the store by the member's name; empty for an archive of images.
    """

    url: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetCard:
    """One published data set.

    Attributes:
        name: as in `dataset.name`.
        annotations: captions and split files.
        images: distinct images of all splits.
        queries: expected by (category, split).
        gallery: expected size of the val gallery `original`, by category.
        archives: official zip files, of annotations and of images.
        mirrors: sources of images, in the order to try.
        url_tables: tables of image ids and URLs, the last resort.
        consent: page of the terms that the user must agree to before images are fetched.
        placeholders: whether sources may return placeholders of dead products.
        optional: annotation files that may be missing in an official copy.
    """

    name: str
    homepage: str
    licence: str
    terms: str
    citation: str
    annotations: Files
    images: int
    queries: Mapping[tuple[str, str], int]
    gallery: Mapping[str, int]
    archives: tuple[Archive, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    url_tables: Files | None = None
    consent: str | None = None
    placeholders: bool = False
    optional: frozenset[str] = field(default_factory=frozenset)


FASHIONIQ = DatasetCard(
    name="fashioniq",
    homepage="https://github.com/XiaoxiaoGuo/fashion-iq",
    licence="annotations: CDLA-Permissive-1.0; images: their sellers', shown on Amazon",
    terms="The images are product photos from Amazon; no licence to distribute them is given.",
    citation="Wu et al., Fashion IQ: A New Dataset Towards Retrieving Images by Natural Language "
    "Feedback, CVPR 2021 (arXiv 1905.12794)",
    annotations=Files(
        "XiaoxiaoGuo/fashion-iq",
        ("f71b16c", "master"),
        {
            "captions/cap.dress.test.json": "190240b3b4d115cd4f80de65ab78ca18a3f8581c041cbeea6f5a1f57ee4f5a48",
            "captions/cap.dress.train.json": "1691bd52e5bbda755b0c1f14d1024000be2c57a0cc29511a327af1372636a946",
            "captions/cap.dress.val.json": "5e5117d45695df9c3ca91fac3e0bc49e6422ae9c8b3793f0ac9b3ab83adb7de9",
            "captions/cap.shirt.test.json": "27c7551b005d4befa53135a7ddee5e31c97821eafd3ceb3fec514e7ac0ad83a7",
            "captions/cap.shirt.train.json": "0999ce5da01a38f0cef1547941b738f4c56e225fdd9b8e03e2a6edaf292f94c3",
            "captions/cap.shirt.val.json": "7b7ca3797b85dddfd83e74cdb4454cb63e3e7c09acef2590155efbacea6d7feb",
            "captions/cap.toptee.test.json": "db822aa52340ce1f09c3000064f79b60b6c476b50b98bf34200dd2996c06e146",
            "captions/cap.toptee.train.json": "6daa171a9e744823087780a3b69b8b697bd05526adb6dd55a38ee6c4904ab348",
            "captions/cap.toptee.val.json": "b4e09f428e6c255cc4b4ec46e77908305ab83075d82840c960be81af15cdc5eb",
            "image_splits/split.dress.test.json": "1d1d3af24b9ec4ed3f7805c53a870148df9b51e232b32912505d8ae54718353d",
            "image_splits/split.dress.train.json": "dcb1c7329003e85e39a3010147a620cee4b7de6a5ddf2626f253bc9a2cdd78e5",
            "image_splits/split.dress.val.json": "21ff91d53c23859da91bfd49f3acc139b7f3a3dc944fc4e4a80194468cf14bab",
            "image_splits/split.shirt.test.json": "8d243830e80e77c23c8dc9a85db87813230d38da146f0706082db812f591968b",
            "image_splits/split.shirt.train.json": "1552c05d866d31b43321a719b2cb8a65f02c53e9a6bc355861fe1d62498b9983",
            "image_splits/split.shirt.val.json": "b82effbf7352a6f828b38c45eb32e53d726bd4d6fd81d6290c81eeb2c68e3234",
            "image_splits/split.toptee.test.json": "25a30d4f4013a04026585399b10980db7cba39dfaad0d97a0671a62e2125ddbf",
            "image_splits/split.toptee.train.json": "aa9b3a55332340f21360fb6a3fe174badd27ce389fe7d78d890bf2b9032ffe05",
            "image_splits/split.toptee.val.json": "ee42b2505275dd7a19b11ddb88c9264aab2d77f4e59b075fb1c7c3095d02f412",
        },
    ),
    images=74381,
    queries={
        ("dress", "train"): 5985,
        ("shirt", "train"): 5988,
        ("toptee", "train"): 6027,
        ("dress", "val"): 2017,
        ("shirt", "val"): 2038,
        ("toptee", "val"): 1961,
        ("dress", "test"): 2024,
        ("shirt", "test"): 2038,
        ("toptee", "test"): 2056,
    },
    gallery={"dress": 3817, "shirt": 6346, "toptee": 5373},
    mirrors=(
        Mirror(
            "mteb/mbeir_fashioniq_task7",
            "469fba95d895f129f1d297619835d724db01904d",
            "id",
            "image",
            Pool("TIGER-Lab/M-BEIR", "cand_pool/local/mbeir_fashioniq_task7_cand_pool.jsonl"),
        ),
        Mirror("royokong/fashioniq_val_imgs", "main", "id", "img"),
    ),
    url_tables=Files(
        "hongwang600/fashion-iq-metadata",
        ("3bb39d7", "master"),
        {
            "image_url/asin2url.dress.txt": "c428c2c4893962c3d18d77fe65ed59dee5dcc8d0145a81a41f282d7e72ccd436",
            "image_url/asin2url.shirt.txt": "5b25c8db276d9390de886aa34d7b3618d355771cd5b8300a8f0dd60a86ec04e9",
            "image_url/asin2url.toptee.txt": "c41e0652cbdf59fa8a7d2068e7ec01795a97aee1bf98b7d5a20be6c775e27f65",
        },
    ),
    placeholders=True,
    optional=frozenset(
        f"{kind}.{category}.test.json"
        for kind in ("captions/cap", "image_splits/split")
        for category in ("dress", "shirt", "toptee")
    ),
)

CIRR = DatasetCard(
    name="cirr",
    homepage="https://github.com/Cuberick-Orion/CIRR",
    licence="annotations: MIT; images: NLVR2's, for research under its terms",
    terms="The images are NLVR2's, collected from the web; its authors ask every user to agree to "
    "their terms of use.",
    citation="Liu et al., Image Retrieval on Real-life Images with Pre-trained Vision-and-Language "
    "Models, ICCV 2021 (arXiv 2108.04024)",
    annotations=Files(
        "Cuberick-Orion/CIRR",
        ("2276fba", "cirr_dataset"),
        {
            "captions/cap.rc2.test1.json": "26a2b2e7a5c96c903491aefc7d5f237f03d3cca97712e1b6bb3b231db5ff8001",
            "captions/cap.rc2.train.json": None,
            "captions/cap.rc2.val.json": "a85c3a1aa464f1af7229918e8018d08b8b20ce5dab479ffdf39d61113140f919",
            "image_splits/split.rc2.test1.json": "bf2bb9ed0659c4aae35de72350652b9ab75d36a060211f826bec15c58ec12566",
            "image_splits/split.rc2.train.json": "7b3f2211ff67e527190754ab778321a3c83f0baa6150d1e6c19646ec25c3bcb9",
            "image_splits/split.rc2.val.json": "de36f7a7219c8bb06347a67748cfc68405be7dad62853a1e31846c98e491235b",
        },
    ),
    images=21551,
    queries={("all", "train"): 28225, ("all", "val"): 4181, ("all", "test1"): 4148},
    gallery={"all": 2297},
    mirrors=(
        Mirror(
            "mteb/mbeir_cirr_task7",
            "bb0713ed1ed136b2974fce68df7e26388040b650",
            "id",
            "image",
            Pool("TIGER-Lab/M-BEIR", "cand_pool/local/mbeir_cirr_task7_cand_pool.jsonl"),
        ),
        Mirror("royokong/cirr_imgs", "main", "id", "img"),
    ),
    consent="https://lil.nlp.cornell.edu/nlvr/",
    optional=frozenset({"captions/cap.rc2.test1.json", "image_splits/split.rc2.test1.json"}),
)

COCO = "COCO2017_unlabeled"
IMAGE_LIST = "annotations/image_info_unlabeled2017.json"
CIRCO = DatasetCard(
    name="circo",
    homepage="https://github.com/miccunifi/CIRCO",
    licence="annotations: CC BY-NC 4.0; images: COCO 2017's, each under its Flickr licence",
    terms="The images are photos of Flickr's users, collected by COCO; Flickr's terms of use hold, "
    "and COCO does not own their copyright.",
    citation="Baldrati et al., Zero-Shot Composed Image Retrieval with Textual Inversion, "
    "ICCV 2023 (arXiv 2303.15247)",
    annotations=Files(
        "miccunifi/CIRCO",
        ("267b5c9", "HEAD"),
        {
            "annotations/test.json": "2f7c37e89220c990b6b0525d6f3ed63d3fc02e03ce336aa42a3b822841b14886",
            "annotations/val.json": "6b31a1dbc3c85627501d9a250f87708f24a27d74d6a65360b6ddd2537a154d04",
        },
    ),
    images=123403,
    queries={("all", "val"): 220, ("all", "test"): 800},
    gallery={"all": 123403},
    archives=(
        Archive(
            "http://images.cocodataset.org/annotations/image_info_unlabeled2017.zip",
            {IMAGE_LIST: f"{COCO}/{IMAGE_LIST}"},
        ),
        Archive("http://images.cocodataset.org/zips/unlabeled2017.zip"),
    ),
    optional=frozenset({"annotations/test.json"}),
)

CARDS: Mapping[str, DatasetCard] = {card.name: card for card in (FASHIONIQ, CIRR, CIRCO)}


def has_placeholders(name: str) -> bool:
    """Whether sources of a data set may return placeholders of dead products."""
    card = CARDS.get(name)
    return card is not None and card.placeholders
