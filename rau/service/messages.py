"""Schemas of requests and responses; the OpenAPI document is generated from them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rau.search.model import NEUTRAL
from rau.search.searcher import MAX_K
from rau.search.where import MAX_LENGTH

MAX_REFERENCES = 8
Id = Annotated[str, Field(min_length=1, max_length=1000)]
UploadId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=1000)]


class Message(BaseModel):
    """A JSON object with exactly these fields, or created from an object's attributes."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


class SearchRequest(Message):
    """A query: images, a caption or both."""

    references: list[Id] = Field([], max_length=MAX_REFERENCES, description="ids of the index")
    uploads: list[UploadId] = Field([], max_length=MAX_REFERENCES, description="ids of uploads")
    caption: Text = Field("", description="what should be different, or a description")
    without: Text = Field("", description="what should not be there")
    image_weight: float = Field(
        NEUTRAL, ge=0, le=1, description="1 for only the images, 0 for only the caption"
    )
    where: str | None = Field(
        None, max_length=MAX_LENGTH, examples=["category = 'dress' and price < 50"]
    )
    k: int = Field(24, ge=1, le=MAX_K, description="how many images to return")
    keep_references: bool = Field(False, description="include references in the response")
    any_category: bool = Field(
        False, description="search all categories, not only that of the references"
    )


class Hit(Message):
    """An image of the response; `score` is its cosine similarity to the query."""

    id: str
    score: float
    attributes: dict[str, Any]


class Confidence(Message):
    """Confidence of a response.

    Attributes:
        probability_at_k: probability that the target is among the first k, by k.
        prediction_set_size: length of the shortest list that contains the target with 90 %; null
            if no short list does.
    """

    probability_at_k: dict[int, float]
    prediction_set_size: int | None


class Searched(Message):
    """The images that were searched, not counting references.

    Attributes:
        category: the references' category if the search was restricted to it, else null.
        images: number of searched images.
        images_any_category: their number without a restriction to a category.
    """

    category: str | None
    images: int
    images_any_category: int


class SearchResponse(Message):
    """The best matches, best first.

    Attributes:
        confidence: null if it was not validated for such a query and gallery.
        confidence_unavailable: why `confidence` is null.
    """

    hits: list[Hit]
    confidence: Confidence | None
    confidence_unavailable: str | None
    searched: Searched


class Upload(Message):
    """An image that is kept in memory for searches, by the SHA-256 of its file."""

    id: str
    width: int
    height: int


class Choices(Message):
    """An attribute with a few values; with the `kind` list, an image may have several of them."""

    kind: Literal["text", "list"]
    attribute: str
    values: list[str]


class Range(Message):
    """A numeric attribute."""

    kind: Literal["number"] = "number"
    attribute: str
    low: float
    high: float


class Flag(Message):
    """A boolean attribute."""

    kind: Literal["boolean"] = "boolean"
    attribute: str


Filter = Annotated[Choices | Range | Flag, Field(discriminator="kind")]


class IndexInfo(Message):
    """Properties of the index and of the service.

    Attributes:
        examples: ids of some images to start from.
        feedback: whether feedback is stored.
        token: whether feedback requires a token.
    """

    images: int
    filters: list[Filter]
    examples: list[str]
    feedback: bool
    token: bool


class FeedbackRequest(Message):
    """Feedback: whether the target is a correct answer to a reference and a caption."""

    reference: Id
    target: Id
    caption: Annotated[str, Field(min_length=1, max_length=1000)]
    accepted: bool


class FeedbackStored(Message):
    """Confirms that the feedback is on the disk."""

    stored: Literal[True] = True


class Health(Message):
    """The state of the service.

    Attributes:
        stale: whether the index has changed and could not be reopened; the log has the reason.
    """

    images: int
    stale: bool
